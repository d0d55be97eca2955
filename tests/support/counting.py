"""A local server that counts what it is asked, by path: whatever is lost or comes twice is seen.

A Trio server in a thread of its own. A path that begins with ``/slow`` is answered after a while, so that
there is always something in flight. Each answer is one write: it is there whole or not at all.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Self

import trio

from tests.support.deadlines import DEADLINE, Gate

SLOW = 0.3
"""Seconds until a slow answer."""
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Counting:
    """Counts requests by path. ``seen`` is for reading once the load has ended."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.url = ""
        self._ready = Gate("the local server")
        self._stop: trio.CancelScope | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="counting", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._token is not None
        assert self._stop is not None
        self._token.run_sync_soon(self._stop.cancel)
        self._thread.join(DEADLINE)

    async def _main(self) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        self._token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self._stop:
            self._ready.open()
            await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """Answer POSTs with a Content-Length, one after the other."""
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    if not (more := await stream.receive_some(65_536)):
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                lines = head.split(b"\r\n")
                length = next(int(line[15:]) for line in lines if line.lower().startswith(b"content-length:"))
                while len(data) < length:
                    if not (more := await stream.receive_some(65_536)):
                        return
                    data += more
                data = data[length:]
                path = lines[0].split()[1].decode()
                self.seen[path] += 1
                if path.startswith("/slow"):
                    await trio.sleep(SLOW)
                await stream.send_all(_ANSWER)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the client gave the connection up
