"""Tunnels over WebSocket (RFC 6455): the only module that knows trio-websocket.

The relay answers handshakes with `open_handshake`, the CLI dials with `connect_websocket`. Neither does more
than carry binary messages; text messages end the link.
"""

import ssl
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import trio
import trio_websocket

from whook.link.errors import HandshakeRefused, LinkClosed
from whook.wire import SUBPROTOCOL

#: Bytes. A link gathers at most 256 KiB and one frame more into a message; a larger one is not ours.
_MAX_MESSAGE: Final = 1_048_576
#: Bytes read from the socket at once; trio-websocket's own 4 KiB makes sixteen events of one DATA frame.
_RECEIVE_BUFFER: Final = 65_536
#: Seconds that the closing handshake may take before the socket is simply closed.
_CLOSE_TIMEOUT: Final = 2.0
#: Bytes of a refusal's body that are kept.
_REFUSAL_BODY: Final = 8_192


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

    async def send(self, data: bytes) -> None:
        """Send one binary message. Raises `LinkClosed`."""
        try:
            await self._connection.send_message(data)
        except trio_websocket.ConnectionClosed as error:
            raise LinkClosed(_why(error)) from None

    async def aclose(self) -> None:
        """Close with the closing handshake while the peer takes part, after two seconds without."""
        with trio.move_on_after(_CLOSE_TIMEOUT):
            await self._connection.aclose()


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _why(error: trio_websocket.ConnectionClosed) -> str:
    reason = error.reason
    if reason is None or reason.code == _ABNORMAL_CLOSURE:
        return "the connection broke"
    return f"the WebSocket was closed with code {reason.code} {reason.reason or ''}".rstrip()


class Handshake:
    """A client's opening handshake, to be accepted or rejected.

    Attributes:
        path: the request target's path.
        headers: names in lower case; of repeated fields the last.
    """

    __slots__ = ("_request", "headers", "path")

    def __init__(self, request: trio_websocket.WebSocketRequest) -> None:
        self._request = request
        self.path = request.path
        self.headers = _decoded(request.headers)

    @property
    def speaks_whook(self) -> bool:
        """True when the client offers the subprotocol of this version."""
        return SUBPROTOCOL in self._request.proposed_subprotocols

    async def accept(self) -> WebSocketTransport:
        """Finish the handshake. Raises `LinkClosed` when the client is gone."""
        try:
            connection = await self._request.accept(subprotocol=SUBPROTOCOL)
        except trio_websocket.ConnectionClosed as error:
            raise LinkClosed(_why(error)) from None
        return WebSocketTransport(connection)

    async def reject(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer with an HTTP error instead. Raises `LinkClosed` when the client is gone."""
        try:
            await self._request.reject(status, extra_headers=headers, body=body)
        except trio_websocket.ConnectionClosed as error:
            raise LinkClosed(_why(error)) from None


@asynccontextmanager
async def open_handshake(stream: trio.abc.Stream, *, timeout: float) -> AsyncGenerator[Handshake]:
    """Receive a WebSocket opening handshake on an accepted stream; the stream is closed on exit.

    Raises:
        LinkClosed: no handshake came within `timeout` seconds.
    """
    async with trio.open_nursery() as nursery:
        request = None
        with trio.move_on_after(timeout):
            request = await trio_websocket.wrap_server_stream(
                nursery, stream, max_message_size=_MAX_MESSAGE, receive_buffer_size=_RECEIVE_BUFFER
            )
        try:
            if request is None:
                raise LinkClosed("no WebSocket handshake in time")
            yield Handshake(request)
        finally:
            nursery.cancel_scope.cancel()
            await trio.aclose_forcefully(stream)


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
        LinkClosed: it could not be reached, or not within `timeout` seconds.
    """
    host, port, resource, secure = _split(url)
    opening = True
    try:
        async with trio_websocket.open_websocket(
            host,
            port,
            resource,
            use_ssl=(ssl_context or True) if secure else False,
            subprotocols=[SUBPROTOCOL],
            extra_headers=headers,
            max_message_size=_MAX_MESSAGE,
            receive_buffer_size=_RECEIVE_BUFFER,
            connect_timeout=timeout,
            disconnect_timeout=_CLOSE_TIMEOUT,
        ) as connection:
            opening = False
            yield WebSocketTransport(connection)
    except trio_websocket.ConnectionRejected as error:
        body = (error.body or b"")[:_REFUSAL_BODY]
        raise HandshakeRefused(error.status_code, _decoded(error.headers or ()), body) from None
    except trio_websocket.ConnectionTimeout:
        raise LinkClosed(f"no answer from {url} within {timeout:g} s") from None
    except trio_websocket.DisconnectionTimeout:
        return  # the peer did not take part in closing; open_websocket has closed the socket
    except (trio_websocket.HandshakeError, trio_websocket.ConnectionClosed) as error:
        if not opening:
            raise
        raise LinkClosed(f"cannot reach {url}: {error.__cause__ or error}") from error


def _split(url: str) -> tuple[str, int, str, bool]:
    parts = urlsplit(url)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise LinkClosed(f"{url!r} is not a WebSocket address (ws://host:port/path)")
    secure = parts.scheme == "wss"
    resource = parts.path or "/"
    if parts.query:
        resource += f"?{parts.query}"
    return parts.hostname, parts.port or (443 if secure else 80), resource, secure
