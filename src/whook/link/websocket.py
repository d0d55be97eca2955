"""Tunnels over WebSocket (RFC 6455): the only module that knows trio-websocket.

The CLI dials with `connect_websocket`; the relay's end is `whook.link.acceptor`. Carries binary messages and
nothing else; text messages end the link.
"""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final, cast
from urllib.parse import urlsplit

import trio
import trio_websocket
from wsproto.utilities import ProtocolError as _WebSocketError  # what trio-websocket stands on

from whook.link.errors import HandshakeRefused, LinkClosed, LinkUnanswered
from whook.link.transport import Batch
from whook.wire import SUBPROTOCOL

#: Bytes. A link gathers at most 256 KiB and one frame more into a message; a larger one is not ours.
_MAX_MESSAGE: Final = 1_048_576
#: Bytes read from the socket at once; trio-websocket's own 4 KiB makes sixteen events of one DATA frame.
_RECEIVE_BUFFER: Final = 65_536
#: Bytes of a message that is sent. To mask one of a quarter of a megabyte takes five times as long a byte.
_MESSAGE: Final = 65_536
#: Seconds that the closing handshake may take before the socket is simply closed.
_CLOSE_TIMEOUT: Final = 2.0
#: Bytes of a refusal's body that are kept.
_REFUSAL_BODY: Final = 8_192
#: What trio-websocket raises when it sends on a connection that broke, or was broken by its peer's bytes.
_BROKEN: Final = (trio_websocket.ConnectionClosed, _WebSocketError)

#: RFC 6455, section 7.4.1: closed on purpose; closed without a close frame.
_NORMAL_CLOSURE: Final = 1000
_ABNORMAL_CLOSURE: Final = 1006


class WebSocketTransport:
    """A link's transport over one WebSocket."""

    __slots__ = ("_connection",)

    def __init__(self, connection: trio_websocket.WebSocketConnection) -> None:
        self._connection = connection

    async def receive(self) -> bytes:
        """Return the next message, b"" once the peer has closed the WebSocket. Raises `LinkClosed`."""
        message: str | bytes = b""
        try:
            while not message:  # an empty message carries no frame and is not the end
                message = await self._connection.get_message()
        except trio_websocket.ConnectionClosed as error:
            if error.reason is not None and error.reason.code == _NORMAL_CLOSURE:
                return b""
            raise LinkClosed(_why(error)) from None
        if isinstance(message, str):
            raise LinkClosed("the peer sent a text message; the wire is binary")
        return message

    async def send(self, data: Batch) -> None:
        """Send binary messages. Raises `LinkClosed`."""
        whole = data if isinstance(data, bytes) else b"".join(data)
        try:
            for at in range(0, len(whole), _MESSAGE):
                await self._connection.send_message(whole[at : at + _MESSAGE])
        except _BROKEN as error:
            raise LinkClosed(_why(error)) from None

    async def aclose(self) -> None:
        """Close with the closing handshake while the peer takes part, after two seconds without."""
        with trio.move_on_after(_CLOSE_TIMEOUT):
            try:
                await self._connection.aclose()
            except _BROKEN:
                return  # whoever opened the connection closes its stream


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, trio_websocket.ConnectionClosed) else None
    if reason is None or reason.code == _ABNORMAL_CLOSURE:
        return "the connection broke"
    return f"the WebSocket was closed with code {reason.code} {reason.reason or ''}".rstrip()


class _Reader:
    """Runs the task in which trio-websocket reads; given to it in place of a nursery.

    What is raised there ends one connection, not the process, and the end of the task ends the wait for a
    handshake that will not come any more.
    """

    __slots__ = ("_nursery", "failure", "handshake", "timed_out")

    def __init__(self, nursery: trio.Nursery, timeout: float) -> None:
        self._nursery = nursery
        self.handshake = trio.CancelScope(deadline=trio.current_time() + timeout)
        self.failure: Exception | None = None
        self.timed_out = True

    def as_nursery(self) -> trio.Nursery:
        """Give this to trio-websocket, which calls nothing but `start_soon`."""
        return cast("trio.Nursery", self)

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, task, name="websocket reader")

    async def _run(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except Exception as error:  # noqa: BLE001 - whatever layers of libraries make of a hostile peer's bytes
            self.failure = error
        self.timed_out = False
        self.handshake.cancel()


@asynccontextmanager
async def connect_websocket(
    url: str,
    *,
    headers: list[tuple[bytes, bytes]],
    timeout: float,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncGenerator[WebSocketTransport]:
    """Dial a WebSocket (`ws://` or `wss://`) and close it on exit.

    Raises:
        HandshakeRefused: the server answered with an HTTP error.
        LinkClosed: it could not be reached; `LinkUnanswered`: not within `timeout` seconds.
        ExceptionGroup: of what the block raises.
    """
    host, port, resource, secure = _split(url)
    failure: HandshakeRefused | LinkClosed | None = None
    async with trio.open_nursery() as nursery:
        reader = _Reader(nursery, timeout)
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream] | None = None
        connection = None
        try:
            with reader.handshake:
                try:
                    stream = await trio.open_tcp_stream(host, port)
                    if secure:
                        stream = _secured(stream, host, ssl_context)
                        await stream.do_handshake()
                except (OSError, trio.BrokenResourceError) as error:
                    reader.failure, reader.timed_out = error, False
                else:
                    connection = await trio_websocket.wrap_client_stream(
                        reader.as_nursery(),
                        stream,
                        _host_field(host, port, secure=secure),
                        resource,
                        subprotocols=[SUBPROTOCOL],
                        extra_headers=headers,
                        max_message_size=_MAX_MESSAGE,
                        receive_buffer_size=_RECEIVE_BUFFER,
                    )
            if connection is None:
                failure = _refusal(url, reader, timeout)
            else:
                yield WebSocketTransport(connection)
                await WebSocketTransport(connection).aclose()
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure from reader.failure


def _secured(
    stream: trio.SocketStream, host: str, context: ssl.SSLContext | None
) -> trio.SSLStream[trio.SocketStream]:
    context = context or ssl.create_default_context()
    return trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)


def _host_field(host: str, port: int, *, secure: bool) -> str:
    """Return the Host field for the handshake (RFC 9110, section 7.2)."""
    name = f"[{host}]" if ":" in host else host
    return name if port == (443 if secure else 80) else f"{name}:{port}"


def _refusal(url: str, reader: _Reader, timeout: float) -> HandshakeRefused | LinkClosed:
    """Say why there is no connection."""
    error = reader.failure
    if isinstance(error, trio_websocket.ConnectionRejected):
        body = (error.body or b"")[:_REFUSAL_BODY]
        return HandshakeRefused(error.status_code, _decoded(error.headers or ()), body)
    if reader.timed_out:
        return LinkUnanswered(f"no answer from {url} within {timeout:g} s")
    if isinstance(error, OSError):
        return LinkClosed(f"cannot reach {url}: {error}")
    if isinstance(error, trio.BrokenResourceError):
        return LinkClosed(f"cannot reach {url}: {error.__cause__ or error}")
    return LinkClosed(f"cannot reach {url}: it closed the connection, or does not speak WebSocket")


def _split(url: str) -> tuple[str, int, str, bool]:
    parts = urlsplit(url)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise LinkClosed(f"{url!r} is not a WebSocket address (ws://host:port/path)")
    secure = parts.scheme == "wss"
    resource = parts.path or "/"
    if parts.query:
        resource += f"?{parts.query}"
    return parts.hostname, parts.port or (443 if secure else 80), resource, secure
