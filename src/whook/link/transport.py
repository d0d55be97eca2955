"""What a link runs over: something that carries byte messages both ways.

`StreamTransport` is a trunk's TCP or TLS stream. A tunnel's WebSocket is in `whook.link.websocket`.
A transport translates its library's errors into `LinkClosed`; a send that was cancelled leaves it unusable.
"""

from typing import Final, Protocol

import trio

from whook.link.errors import LinkClosed

#: Bytes read from a stream at once: two DATA frames, so that a bulk transfer needs few system calls.
_RECEIVE: Final = 131_072


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


class StreamTransport:
    """A link over a byte stream (TCP, TLS, or a pair in memory)."""

    __slots__ = ("_stream",)

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def receive(self) -> bytes:
        """Return the next bytes, b"" at the end. Raises `LinkClosed`."""
        try:
            return bytes(await self._stream.receive_some(_RECEIVE))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkClosed(f"the connection broke: {error.__cause__ or error}") from error

    async def send(self, data: bytes) -> None:
        """Send all of `data`. Raises `LinkClosed`."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkClosed(f"the connection broke: {error.__cause__ or error}") from error

    async def aclose(self) -> None:
        """Close the stream at once."""
        await trio.aclose_forcefully(self._stream)
