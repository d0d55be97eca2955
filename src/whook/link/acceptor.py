"""The relay's end of a tunnel's WebSocket (RFC 6455): the opening handshake, then a transport for the link.

Our own, because a relay holds tens of thousands of them: no task, no channel and no parser stays with an idle
one, and a message costs one system call. The CLI dials with `whook.link.websocket`. Used by
`whook_relay.tunnels`. The caller owns the stream and closes it; nothing here knows tokens or projects.
"""

from binascii import Error as NotBase64
from binascii import a2b_base64
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import trio

from whook.http1 import Failed, RequestHead, RequestParser
from whook.link import rfc6455
from whook.link.errors import LinkClosed
from whook.link.rfc6455 import ClientFrames, Violation
from whook.link.transport import Batch, receive_when_ready, send_batch, send_now
from whook.wire import SUBPROTOCOL

#: Bytes. A link gathers at most 256 KiB and one frame more into a message; a larger one is not ours.
_MAX_MESSAGE: Final = 1_048_576
#: Bytes of a handshake's head: a token is half a kilobyte, and proxies add their own.
_MAX_HEAD: Final = 16_384
_RECEIVE: Final = 65_536
#: Seconds that the closing handshake may take before the socket is simply closed.
_CLOSE_TIMEOUT: Final = 2.0
_KEY_SIZE: Final = 16  #: bytes of a client's nonce (section 4.1)
_VERSION: Final = b"13"
_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class Handshake:
    """A client's opening handshake, to be accepted or rejected.

    Attributes:
        path: the request target.
        headers: names in lower case; of repeated fields the last.
        speaks_whook: whether the client offers the subprotocol of this version.
    """

    __slots__ = ("_early", "_key", "_stream", "headers", "path", "speaks_whook")

    def __init__(self, stream: trio.abc.Stream, head: RequestHead, key: bytes, early: bytes) -> None:
        self._stream = stream
        self._key = key
        self._early = early
        self.path = head.target.decode("latin-1")
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers
        }
        offered = self.headers.get("sec-websocket-protocol", "").split(",")
        self.speaks_whook = SUBPROTOCOL in (name.strip() for name in offered)

    async def accept(self) -> "AcceptedWebSocket":
        """Finish the handshake. Raises `LinkClosed` when the client is gone."""
        answer = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: %b\r\n\r\n"
        ) % (rfc6455.accept_key(self._key), SUBPROTOCOL.encode())
        await _send(self._stream, answer)
        return AcceptedWebSocket(self._stream, self._early)

    async def reject(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer with an HTTP error instead; Content-Length is added. Raises `LinkClosed`."""
        await _send(self._stream, refusal_of(status, headers, body))


async def receive_handshake(stream: trio.abc.Stream) -> Handshake:
    """Receive a WebSocket opening handshake on an accepted stream; bound it with a deadline.

    Whoever speaks HTTP but no WebSocket is told so.

    Raises:
        LinkClosed: something else came.
    """
    parser = RequestParser(max_head=_MAX_HEAD, max_body=0)
    events = parser.feed(b"")
    while not events:
        try:
            data = await stream.receive_some(_MAX_HEAD)
        except _BROKEN as error:
            raise LinkClosed("no WebSocket handshake") from error
        if not data:
            raise LinkClosed("no WebSocket handshake")
        events = parser.feed(bytes(data))
    head = events[0]
    if isinstance(head, Failed):
        if head.error.status != HTTPStatus.BAD_REQUEST:  # else it is most likely not HTTP at all
            await _send(stream, refusal_of(head.error.status, [], head.error.detail.encode()))
        raise LinkClosed("no WebSocket handshake")
    assert isinstance(head, RequestHead), head
    key = _check(head)
    if key is None or not parser.upgrade_pending:
        say = b"Tunnels are opened here, by WebSocket (RFC 6455). The API has a port of its own.\n"
        headers = [
            (b"Content-Type", b"text/plain"),
            (b"Upgrade", b"websocket"),
            (b"Sec-WebSocket-Version", _VERSION),
        ]
        await _send(stream, refusal_of(HTTPStatus.UPGRADE_REQUIRED, headers, say))
        raise LinkClosed("no WebSocket handshake")
    return Handshake(stream, head, key, parser.accept_upgrade())


def _check(head: RequestHead) -> bytes | None:
    """Return the client's key if this is an opening handshake as section 4.2.1 wants it."""
    found: dict[bytes, bytes] = {}
    for name, value in head.headers:
        name = name.lower()
        if name in {b"sec-websocket-key", b"sec-websocket-version"} and name in found:
            return None
        found[name] = value
    key = found.get(b"sec-websocket-key", b"")
    try:
        size = len(a2b_base64(key, strict_mode=True))
    except NotBase64:
        return None
    right = (
        head.method == b"GET"
        and head.upgrade
        and size == _KEY_SIZE
        and found.get(b"upgrade", b"").lower() == b"websocket"
        and found.get(b"sec-websocket-version") == _VERSION
        and all(value.isascii() for value in (found.get(b"sec-websocket-protocol", b""), head.host))
    )
    return key if right else None


class AcceptedWebSocket:
    """A link's transport over a WebSocket that a client has opened.

    Beside the link's writer only the reader sends (answers to pings and to a close), so a send that is under
    way holds the other up.
    """

    __slots__ = ("_early", "_ended", "_frames", "_free", "_owed", "_sending", "_stream")

    def __init__(self, stream: trio.abc.Stream, early: bytes = b"") -> None:
        """`early` is what came with the handshake."""
        self._stream = stream
        self._early = early
        self._frames = ClientFrames(_MAX_MESSAGE)
        self._sending = False  #: stays so when a send is cancelled: what follows would be taken for its rest
        self._owed = False  #: the beginning of a frame is out, and its rest must come first
        self._free: trio.Event | None = None
        self._ended = False  #: nothing more is read or sent

    async def receive(self) -> bytes:
        """Return the next bytes, b"" once the peer has closed the WebSocket. Raises `LinkClosed`."""
        frames = self._frames
        while frames.closed is None:
            data, self._early = self._early or await self._receive_some(), b""
            violation = None
            try:
                payload = frames.feed(data)
            except Violation as error:
                violation, payload = error, b""
            if violation is not None:
                await self._end(rfc6455.encode_close(violation.code, str(violation)))
                raise LinkClosed(str(violation))
            if frames.closed is not None:
                await self._end(frames.reply)
            elif frames.reply:
                reply, frames.reply = frames.reply, b""
                await self._send(reply)
            if payload:
                return payload
        code, reason = frames.closed
        if code == rfc6455.NORMAL:
            return b""
        raise LinkClosed(f"the WebSocket was closed with code {code} {reason}".rstrip())

    async def _receive_some(self) -> bytes:
        if self._ended:
            raise LinkClosed("the WebSocket is closed")
        try:
            data = await receive_when_ready(self._stream, _RECEIVE)
        except _BROKEN as error:
            self._ended = True
            raise LinkClosed("the connection broke") from error
        if not data:
            self._ended = True
            raise LinkClosed("the connection broke")
        return data

    async def _end(self, farewell: bytes) -> None:
        """Send a close frame, which is the last, unless the client is gone or takes nothing."""
        with trio.move_on_after(_CLOSE_TIMEOUT):
            with suppress(LinkClosed):
                await self._send(farewell)
        self._ended = True

    async def send(self, data: Batch) -> None:
        """Send one binary message. Raises `LinkClosed`."""
        await self._send(_message(data))

    async def _send(self, frame: Batch) -> None:
        while self._owed:
            await self._wait_free()
        await self.send_rest(frame)

    def try_send(self, data: Batch) -> Batch:
        """Send one binary message as far as that needs no waiting; return what is left.

        It is to be given to `send_rest` before anything else is sent. Raises `LinkClosed`.
        """
        if self._ended:
            raise LinkClosed("the WebSocket is closed")
        frame = _message(data)
        if self._sending:
            return frame
        try:
            rest = send_now(self._stream, frame)
        except _BROKEN as error:
            raise LinkClosed("the connection broke") from error
        self._owed = bool(rest) and rest is not frame
        return rest

    async def send_rest(self, rest: Batch) -> None:
        """Send what `try_send` has left. Raises `LinkClosed`."""
        while self._sending and not self._ended:
            await self._wait_free()
        if self._ended:
            raise LinkClosed("the WebSocket is closed")
        self._sending, self._owed = True, False
        try:
            await send_batch(self._stream, rest)
        except _BROKEN as error:
            self._ended = True
            raise LinkClosed("the connection broke") from error
        self._sending = False
        if self._free is not None:
            self._free.set()
            self._free = None

    async def _wait_free(self) -> None:
        if self._free is None:
            self._free = trio.Event()
        await self._free.wait()

    async def aclose(self) -> None:
        """Close with the closing handshake while the client takes part, after two seconds without."""
        try:
            if not (self._ended or self._sending or self._owed):
                with trio.move_on_after(_CLOSE_TIMEOUT):
                    await self._close()
        finally:
            self._ended = True
            await trio.aclose_forcefully(self._stream)

    async def _close(self) -> None:
        try:
            await self._send(rfc6455.encode_close(rfc6455.NORMAL))
            while self._frames.closed is None:
                self._frames.feed(await self._receive_some())
        except (LinkClosed, Violation):
            return


def _message(data: Batch) -> Batch:
    """Return one binary message with this payload."""
    if isinstance(data, bytes):
        return rfc6455.encode_frame(rfc6455.BINARY, data)
    return [rfc6455.encode_head(rfc6455.BINARY, sum(map(len, data))), *data]


async def _send(stream: trio.abc.Stream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except _BROKEN as error:
        raise LinkClosed("the connection broke") from error


def refusal_of(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return the HTTP response that refuses a handshake, whole."""
    fields = [*headers, (b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%b: %b" % field for field in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
