"""The local server of the `stream` scenario: takes or gives as many bytes as it is asked to, and keeps none.

Run as `python -m bench.stream_server`; prints {"port": N}. POST is answered with `X-Received`, the number of
bytes that came; `GET /down/N` with N bytes. One thread for each connection, blocking sockets.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading

BLOCK = 262_144
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)


def serve(sock: socket.socket) -> None:
    """Answer the requests of one connection until it is closed."""
    buffer, data = bytearray(BLOCK), b""
    zeros = memoryview(bytes(BLOCK))
    with sock:
        while True:
            while b"\r\n\r\n" not in data:
                piece = sock.recv(65_536)
                if not piece:
                    return
                data += piece
            head, _, data = data.partition(b"\r\n\r\n")
            found = _LENGTH.search(head + b"\r\n")
            length = int(found[1]) if found else 0
            count = min(len(data), length)
            data = data[count:]
            while count < length:
                got = sock.recv_into(buffer, min(BLOCK, length - count))
                if not got:
                    return
                count += got
            wanted = int(head.split(b" ", 2)[1].rpartition(b"/")[2] or b"0") if head[:4] == b"GET " else 0
            answer = b"HTTP/1.1 200 OK\r\nX-Received: %d\r\nContent-Length: %d\r\n\r\n" % (count, wanted)
            sock.sendall(answer)
            while wanted:
                wanted -= sock.send(zeros[: min(wanted, BLOCK)])


def main() -> None:
    """Serve until the parent ends this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(json.dumps({"port": listener.getsockname()[1]}) + "\n")
        sys.stdout.flush()
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=serve, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main()
