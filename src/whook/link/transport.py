"""What a link runs over: something that carries byte messages both ways.

`StreamTransport` is a trunk's TCP or TLS stream. A tunnel's WebSocket is in `whook.link.websocket`.
A transport translates its library's errors into `LinkClosed`; a send that was cancelled leaves it unusable.
"""

import os
from typing import Final, Protocol

import trio

from whook.link.errors import LinkClosed

#: Bytes read from a stream at once: two DATA frames, so that a bulk transfer needs few system calls.
_RECEIVE: Final = 131_072
#: A socket can be written to without waiting, through its descriptor, where sockets are files.
_DESCRIPTORS: Final = os.name == "posix"
_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class Transport(Protocol):
    """Carries bytes; message boundaries need not be kept."""

    async def receive(self) -> bytes:
        """Return the next bytes, b"" once the peer has closed. Raises `LinkClosed` when it broke."""
        ...

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises `LinkClosed`. Only one task sends."""
        ...

    async def aclose(self) -> None:
        """Close; never waits for the peer longer than a bounded time, and closes even when cancelled."""
        ...


class SwiftTransport(Transport, Protocol):
    """Can also send without waiting, as far as the system takes it."""

    def try_send(self, data: bytes) -> bytes:
        """Send as much of `data` as needs no waiting and return the bytes that are left, as they must go out.

        They are to be given to `send_rest` before anything else is sent. Raises `LinkClosed`.
        """
        ...

    async def send_rest(self, rest: bytes) -> None:
        """Send what `try_send` has left. Raises `LinkClosed`."""
        ...


def send_now(stream: trio.abc.Stream, data: bytes) -> bytes:
    """Send what the system takes of `data` at once and return the rest; of a stream that is no socket, all.

    For small messages: `send_all` costs twice as much, most of it for being able to wait. No checkpoint.
    Raises trio.BrokenResourceError and trio.ClosedResourceError as `send_all` does.
    """
    if not (_DESCRIPTORS and isinstance(stream, trio.SocketStream)):
        return data
    descriptor = stream.socket.fileno()
    if descriptor < 0:
        raise trio.ClosedResourceError("this socket was already closed")
    try:
        sent = os.write(descriptor, data)
    except BlockingIOError:
        return data
    except OSError as error:
        raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
    return data[sent:] if sent < len(data) else b""


async def receive_when_ready(stream: trio.abc.Stream, size: int) -> bytes:
    """Receive as `receive_some` does, but wait for data before the first attempt to read it.

    For links on which one message is seldom followed by another at once: `receive_some` tries first, which
    costs such a link a system call and an exception for every message. A busy one loses nothing by it. Raises
    trio.BrokenResourceError and trio.ClosedResourceError. Only one task receives.
    """
    if not (_DESCRIPTORS and isinstance(stream, trio.SocketStream)):
        return bytes(await stream.receive_some(size))
    sock = stream.socket
    while True:
        if sock.fileno() < 0:
            raise trio.ClosedResourceError("this socket was already closed")
        await trio.lowlevel.wait_readable(sock)
        descriptor = sock.fileno()  # again: closed meanwhile, the number may be another's
        if descriptor < 0:
            raise trio.ClosedResourceError("this socket was closed")
        try:
            return os.read(descriptor, size)
        except BlockingIOError:
            continue
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


class StreamTransport:
    """A link over a byte stream (TCP, TLS, or a pair in memory)."""

    __slots__ = ("_stream",)

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def receive(self) -> bytes:
        """Return the next bytes, b"" at the end. Raises `LinkClosed`."""
        try:
            return bytes(await self._stream.receive_some(_RECEIVE))
        except _BROKEN as error:
            raise LinkClosed(f"the connection broke: {error.__cause__ or error}") from error

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises `LinkClosed`."""
        try:
            await self._stream.send_all(data)
        except _BROKEN as error:
            raise LinkClosed(f"the connection broke: {error.__cause__ or error}") from error

    def try_send(self, data: bytes) -> bytes:
        """Send what the system takes at once and return the rest. Raises `LinkClosed`."""
        try:
            return send_now(self._stream, data)
        except _BROKEN as error:
            raise LinkClosed(f"the connection broke: {error.__cause__ or error}") from error

    async def send_rest(self, rest: bytes) -> None:
        """Send what `try_send` has left. Raises `LinkClosed`."""
        await self.send(rest)

    async def aclose(self) -> None:
        """Close the stream at once."""
        await trio.aclose_forcefully(self._stream)
