"""A raw socket and the plainest possible reading of HTTP/1.1 messages on it, for both ends of a test.

It is the tests' second opinion: it shares no code with whook, keeps every byte it saw, and judges nothing.
Blocking sockets with a timeout, so that sync tests and the origin's threads use the same few lines.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.support.deadlines import DEADLINE

RECV = 262_144


class PeerClosed(Exception):
    """The other side closed in the middle of something; what came before is in args[1]."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request or response, as the bytes that made it."""

    head: bytes
    """From the first byte of the start line to the blank line, which is included."""
    body: bytes = b""
    """The body without its chunk framing."""
    trailers: tuple[bytes, ...] = ()
    framing: str = "none"
    """How the body was delimited: none, length, chunked, close."""

    @property
    def start_line(self) -> bytes:
        """The first line, without its line break."""
        return self.head.split(b"\r\n", 1)[0]

    @property
    def lines(self) -> list[bytes]:
        """The header lines as sent, without line breaks."""
        return self.head.split(b"\r\n")[1:-2]

    @property
    def status(self) -> int:
        """The status code; only for a response."""
        return int(self.start_line.split(b" ")[1])

    @property
    def method(self) -> bytes:
        """The method; only for a request."""
        return self.start_line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        """The request target, raw; only for a request."""
        return self.start_line.split(b" ")[1]

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a header, in order; the name in any case."""
        pairs = (line.partition(b":") for line in self.lines)
        return [value.strip(b" \t") for key, _, value in pairs if key.lower() == name.lower()]

    def value(self, name: bytes) -> bytes:
        """Give the value of a header that is there exactly once."""
        (value,) = self.values(name)
        return value


@dataclass(slots=True)
class Peer:
    """One end of a connection: sends bytes as given, reads with a buffer, waits up to the deadline."""

    sock: socket.socket
    buffer: bytearray = field(default_factory=bytearray)

    @classmethod
    def connect(cls, port: int, host: str = "127.0.0.1", *, source: str | None = None) -> Self:
        """Connect to a port of this machine, if wished from another loopback address."""
        at = (source, 0) if source else None
        peer = cls(socket.create_connection((host, port), timeout=DEADLINE, source_address=at))
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return peer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close; never fails."""
        self.sock.close()

    def reset(self) -> None:
        """Close at once with a RST, as a process that dies or a lost network would make the kernel do."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.sock.close()

    def send(self, *parts: bytes) -> None:
        """Send bytes as they are, all of them."""
        for part in parts:
            self.sock.sendall(part)

    def end(self) -> None:
        """Say that no more comes from this side (FIN), and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def fill(self) -> bool:
        """Read whatever comes next into the buffer; False at the end of the stream."""
        try:
            data = self.sock.recv(RECV)
        except (ConnectionResetError, ssl.SSLEOFError):
            return False
        self.buffer += data
        return bool(data)

    def take(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        while len(self.buffer) < size:
            if not self.fill():
                raise PeerClosed(f"closed after {len(self.buffer)} of {size} bytes", bytes(self.buffer))
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def take_until(self, mark: bytes) -> bytes:
        """Read up to and with a mark."""
        seen = 0
        while (found := self.buffer.find(mark, seen)) < 0:
            seen = max(0, len(self.buffer) - len(mark))
            if not self.fill():
                raise PeerClosed(f"closed before {mark!r}", bytes(self.buffer))
        return self.take(found + len(mark))

    def take_rest(self) -> bytes:
        """Read to the end of the stream."""
        while self.fill():
            pass
        return self.take(len(self.buffer))

    def at_end(self) -> bool:
        """Wait for the next thing: True if the other side closed, False if it sent bytes."""
        return not self.buffer and not self.fill()

    # --- HTTP/1.1, read without opinion

    def read_head(self) -> Message:
        """Read a head; its body is still on the wire."""
        return Message(self.take_until(b"\r\n\r\n"))

    def read_chunk(self) -> bytes:
        """Read one chunk's data; b"" for the last one, whose trailers are still on the wire."""
        size = int(self.take_until(b"\r\n").split(b";")[0], 16)
        if size:
            data = self.take(size)
            assert self.take(2) == b"\r\n"
            return data
        return b""

    def read_trailers(self) -> tuple[bytes, ...]:
        """Read the trailer lines and the blank line that ends a chunked body."""
        lines: list[bytes] = []
        while line := self.take_until(b"\r\n")[:-2]:
            lines.append(line)
        return tuple(lines)

    def read_body(self, head: Message, *, to_end: bool) -> Message:
        """Read the body that belongs to a head; `to_end` says what the absence of both framings means."""
        if any(b"chunked" in value.lower() for value in head.values(b"transfer-encoding")):
            data = bytearray()
            while chunk := self.read_chunk():
                data += chunk
            return Message(head.head, bytes(data), self.read_trailers(), "chunked")
        if lengths := head.values(b"content-length"):
            return Message(head.head, self.take(int(lengths[0])), (), "length")
        if to_end:
            return Message(head.head, self.take_rest(), (), "close")
        return head

    def read_request(self) -> Message:
        """Read a whole request."""
        return self.read_body(self.read_head(), to_end=False)

    def read_response(self, method: bytes = b"GET") -> Message:
        """Read a whole final response; informational ones before it are left out."""
        return self.read_responses(method)[-1]

    def read_responses(self, method: bytes = b"GET") -> list[Message]:
        """Read informational responses and the final one that they announce."""
        seen: list[Message] = []
        while True:
            head = self.read_head()
            status = head.status
            if 100 <= status < 200 and status != 101:
                seen.append(head)
                continue
            if status in {101, 204, 304} or method == b"HEAD":
                return [*seen, head]
            return [*seen, self.read_body(head, to_end=True)]


def chunked(*pieces: bytes, trailers: bytes = b"", extension: bytes = b"") -> bytes:
    """Frame pieces as chunks, with the last chunk and its trailers ("Name: value\\r\\n" lines)."""
    framed = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces if piece)
    return framed + b"0\r\n" + trailers + b"\r\n"


def exchange(port: int, request: bytes, method: bytes | None = None) -> Message:
    """Send one request on a connection of its own and read the final response."""
    with Peer.connect(port) as peer:
        peer.send(request)
        return peer.read_response(method or request.split(b" ", 1)[0])


def post(port: int, host: bytes, body: bytes = b"", target: bytes = b"/hook", *lines: bytes) -> Message:
    """Post a body in the plainest way and read the response."""
    return exchange(port, post_bytes(host, body, target, *lines))


def post_bytes(host: bytes, body: bytes = b"", target: bytes = b"/hook", *lines: bytes) -> bytes:
    """Give the bytes of the plainest POST; `lines` are further header lines without line breaks."""
    head = [b"POST %s HTTP/1.1" % target, b"Host: " + host, *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body
