"""One connection of a load client: a request goes out, an HTTP answer comes in, then perhaps a tunnel.

Non-blocking, for the epoll loop of `storm_clients` and `storm_probe`, which own the loop and the decisions.
"""

from __future__ import annotations

import contextlib
import re
import socket
from typing import Any

from bench.tunnel import Talk

PENDING, READY, ANSWERED, CLOSED, BROKEN = range(5)
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
RETRY_AFTER = re.compile(rb"\r\nretry-after:[ \t]*([^\r]+)", re.IGNORECASE)
#: ip(7): the port is chosen at connect(2), from those free towards that destination.
BIND_ADDRESS_NO_PORT = 24


class HttpAnswer:
    """What came back: `rest` is what followed a 101."""

    __slots__ = ("body", "rest", "retry_after", "status")

    def __init__(self, head: bytes, body: bytes, rest: bytes) -> None:
        self.status = int(head[9:12])
        self.body = body
        self.rest = rest
        found = RETRY_AFTER.search(head)
        self.retry_after = found[1].decode() if found is not None else None


class Connection:
    """A socket and what is on its way. `talk` is set once it has become a tunnel."""

    __slots__ = ("answer", "buffer", "connected", "fd", "owner", "request", "sock", "talk")

    def __init__(self, owner: Any, where: tuple[str, int], source: str, request: bytes) -> None:
        self.owner = owner
        self.request = request
        self.buffer = b""
        self.connected = False
        self.answer: HttpAnswer | None = None
        self.talk: Talk | None = None
        self.sock = socket.socket()
        self.fd = self.sock.fileno()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        self.sock.bind((source, 0))
        self.sock.connect_ex(where)  # what comes of it is told by the first send

    def turn(self) -> int:
        """Do what the socket is ready for. Raises OSError when it broke."""
        if not self.connected:
            self.connected = True
            if error := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, "not connected")
            self.send(self.request)
            self.request = b""
            return READY
        with contextlib.suppress(BlockingIOError):
            data = self.sock.recv(65_536)
            if not data:
                return CLOSED
            if self.talk is not None:
                self.feed(data)
                return PENDING
            return self._take(self.buffer + data)
        return PENDING

    def feed(self, data: bytes) -> None:
        """Hand bytes to the tunnel, and send what they make due."""
        if data and self.talk is not None and (answer := self.talk.receive(data)):
            self.send(answer)

    def send(self, data: bytes) -> None:
        """Send; what the socket does not take at once is an error, since nothing here is large."""
        if self.sock.send(data) != len(data):
            raise OSError("the peer does not read")

    def _take(self, data: bytes) -> int:
        self.buffer = data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return PENDING
        head, rest = data[:end], data[end + 4 :]
        if head.startswith(b"HTTP/1.1 101"):
            self.answer = HttpAnswer(head, b"", rest)
        else:
            found = LENGTH.search(head)
            size = int(found[1]) if found is not None else 0
            if len(rest) < size:
                return PENDING
            self.answer = HttpAnswer(head, rest[:size], b"")
        self.buffer = b""
        return ANSWERED
