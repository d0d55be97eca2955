"""The load: keep-alive connections that each send the same POST again and again, in one process, over epoll.

Run as `python -m bench.load` by the scenarios. It prints {"at": "start"} when it has warmed up and
{"at": "end", ...} with its counts when the window is over, so that the parent can read the server's CPU time
at both moments. Every response must be a 200 (or `--status`) of known length; anything else is an error and
ends the run.
"""

from __future__ import annotations

import argparse
import json
import re
import select
import socket
import sys
import time

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
RECV = 65_536
PATIENCE = 30.0
"""Seconds after which a measurement ends, whatever has been answered."""


class Connection:
    """One keep-alive connection: either sending its request or waiting for the response."""

    __slots__ = ("began", "buffer", "missing", "sent", "sock", "writing")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.sent = 0
        self.buffer = b""
        self.missing = -1
        self.began = 0.0
        self.writing = False


class Load:
    """All connections, and the counts of the current window."""

    def __init__(self, port: int, host: str, connections: int, size: int, status: int = 200) -> None:
        self._expected = b"HTTP/1.1 %d " % status
        self._more = sys.maxsize  # requests that may still begin
        head = f"POST /hook HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        self._request = memoryview(f"{head}Content-Length: {size}\r\n\r\n".encode() + b"x" * size)
        self._epoll = select.epoll()
        self._connections = [Connection(port) for _ in range(connections)]
        self._by_fd = {c.sock.fileno(): c for c in self._connections}
        self.latencies: list[float] = []
        self.errors: list[str] = []
        for fd, connection in self._by_fd.items():
            self._epoll.register(fd, select.EPOLLIN)
            self._begin(connection)

    def run_requests(self, count: int) -> float:
        """Go on until so many requests are answered; gives the seconds that it took."""
        began = time.perf_counter()
        self.latencies.clear()
        self._more = count - len(self._connections)  # which have begun theirs already
        while len(self.latencies) < count and not self.errors:
            self._turn()
        return time.perf_counter() - began

    def run(self, seconds: float) -> float:
        """Go on for so long, and longer if need be for one answer on each connection.

        Gives the seconds that it really was.
        """
        self.latencies.clear()
        began = now = time.perf_counter()
        least = len(self._connections)
        while not self.errors and now - began < PATIENCE:
            if now - began >= seconds and len(self.latencies) >= least:
                break
            self._turn()
            now = time.perf_counter()
        return now - began

    def _turn(self) -> None:
        for fd, event in self._epoll.poll(0.5):
            connection = self._by_fd[fd]
            if event & select.EPOLLOUT:
                self._send(connection)
            if event & ~select.EPOLLOUT:
                self._receive(connection)

    def _begin(self, connection: Connection) -> None:
        if self._more <= 0:
            return
        self._more -= 1
        connection.began = time.perf_counter()
        connection.sent = 0
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        try:
            connection.sent += connection.sock.send(self._request[connection.sent :])
        except BlockingIOError:
            pass
        except OSError as exc:
            self.errors.append(f"send: {exc}")
            return
        writing = connection.sent < len(self._request)
        if writing is not connection.writing:
            connection.writing = writing
            events = select.EPOLLIN | select.EPOLLOUT if writing else select.EPOLLIN
            self._epoll.modify(connection.sock.fileno(), events)

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(RECV)
        except OSError as exc:
            self.errors.append(f"receive: {exc}")
            return
        if not data:
            self.errors.append(f"closed after {connection.buffer[:200]!r}")
            return
        if connection.missing < 0:
            data = connection.buffer + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                connection.buffer = data
                return
            found = LENGTH.search(data, 0, end)
            if not data.startswith(self._expected) or found is None:
                self.errors.append(f"unexpected answer {data[:300]!r}")
                return
            connection.missing = int(found[1]) + end + 4
        connection.missing -= len(data)
        if connection.missing == 0 and connection.sent == len(self._request):
            self.latencies.append(time.perf_counter() - connection.began)
            connection.buffer = b""
            connection.missing = -1
            self._begin(connection)
        elif connection.missing <= 0:
            self.errors.append("an answer came before its request was sent, or was too long")


def say(**values: object) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def quantile(ordered: list[float], share: float) -> float:
    """Give the value below which this share of an ordered list lies, in milliseconds."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


def main() -> None:
    """Warm up, measure once, tell, end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--requests", type=int, default=0, help="so many, instead of for so long")
    parser.add_argument("--status", type=int, default=200, help="what every answer must be")
    args = parser.parse_args()
    connections = min(args.connections, args.requests or args.connections)
    load = Load(args.port, args.host, connections, args.size, args.status)
    if not args.requests:
        load.run(args.warm_up)
    say(at="start", errors=load.errors)
    seconds = load.run_requests(args.requests) if args.requests else load.run(args.seconds)
    ordered = sorted(load.latencies)
    say(
        at="end",
        seconds=seconds,
        requests=len(ordered),
        errors=load.errors,
        p50_ms=quantile(ordered, 0.5),
        p99_ms=quantile(ordered, 0.99),
    )


if __name__ == "__main__":
    main()
