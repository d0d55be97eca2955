"""A raw HTTP/1.1 client on Trio: like `rawhttp.Peer`, for tests that share their loop with the server.

It shares no code with whook and judges nothing: what a test asserts on is bytes. Every wait has the tests'
deadline.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.support.deadlines import DEADLINE
from tests.support.rawhttp import Message


class Lost(Exception):
    """The connection ended too early; `kind` is "end" or "reset", `seen` what came before."""

    def __init__(self, kind: str, seen: bytes) -> None:
        super().__init__(f"{kind} after {seen!r}")
        self.kind = kind
        self.seen = seen


class Client:
    """One connection of a sender."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = bytearray()

    async def send(self, *parts: bytes) -> None:
        """Send bytes as they are."""
        with trio.fail_after(DEADLINE):
            for part in parts:
                await self.stream.send_all(part)

    async def end(self) -> None:
        """Close our side and go on reading."""
        await self.stream.send_eof()

    def reset(self) -> None:
        """Close at once with a RST."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    async def fill(self) -> None:
        """Read what comes next into the buffer. Raises Lost at the end of the connection."""
        with trio.fail_after(DEADLINE):
            try:
                data = await self.stream.receive_some(65_536)
            except trio.BrokenResourceError:
                raise Lost("reset", bytes(self.buffer)) from None
        if not data:
            raise Lost("end", bytes(self.buffer))
        self.buffer += data

    async def take(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        while len(self.buffer) < size:
            await self.fill()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    async def take_until(self, mark: bytes) -> bytes:
        """Read up to and with a mark."""
        while (found := self.buffer.find(mark)) < 0:
            await self.fill()
        return await self.take(found + len(mark))

    async def ending(self) -> str:
        """Wait for the end of the connection: "end" or "reset". What else comes goes into the buffer."""
        kind = ""
        while not kind:
            try:
                await self.fill()
            except Lost as lost:
                kind = lost.kind
        return kind

    async def read_head(self) -> Message:
        """Read a head."""
        return Message(await self.take_until(b"\r\n\r\n"))

    async def read_chunk(self) -> bytes:
        """Read one chunk's data; b"" for the last, whose trailers are still to come."""
        size = int(await self.take_until(b"\r\n"), 16)
        if not size:
            return b""
        data = await self.take(size)
        assert await self.take(2) == b"\r\n"
        return data

    async def read_trailers(self) -> tuple[bytes, ...]:
        """Read what follows the last chunk."""
        lines: list[bytes] = []
        while line := (await self.take_until(b"\r\n"))[:-2]:
            lines.append(line)
        return tuple(lines)

    async def read_response(self, method: bytes = b"GET") -> Message:
        """Read one response; an informational one counts as one."""
        head = await self.read_head()
        if method == b"HEAD" or head.status < 200 or head.status in {204, 304}:
            return head
        if head.values(b"transfer-encoding"):
            data = b""
            while chunk := await self.read_chunk():
                data += chunk
            return Message(head.head, data, await self.read_trailers(), "chunked")
        if lengths := head.values(b"content-length"):
            return Message(head.head, await self.take(int(lengths[0])), (), "length")
        assert await self.ending() == "end"
        return Message(head.head, await self.take(len(self.buffer)), (), "close")


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Client]:
    """Open a connection to a port of this machine."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        yield Client(stream)


def get(target: str = "/", *lines: str, host: str = "shop.localhost") -> bytes:
    """Return the bytes of a GET; `lines` are further header lines."""
    return request("GET", target, *lines, host=host)


def post(body: bytes, target: str = "/hook", *lines: str, host: str = "shop.localhost") -> bytes:
    """Return the bytes of a POST with Content-Length."""
    return request("POST", target, *lines, f"Content-Length: {len(body)}", host=host) + body


def request(method: str, target: str, *lines: str, host: str = "shop.localhost") -> bytes:
    """Return the bytes of a head."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines]
    return ("\r\n".join(head) + "\r\n\r\n").encode()
