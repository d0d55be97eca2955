"""One attempt at an exchange over one connection to the local server: request out, response back.

Owns the order of things on that connection: both directions stream at once, informational responses are
relayed, and after 101 raw bytes pass both ways with half-close. `forward` makes an attempt, and decides by
its attributes what happens next. A request that is at hand whole needs no second task.
"""

from collections.abc import Callable, Sequence
from typing import Final

import trio

from whook.http1 import Body, End, Failed, ResponseEvent, ResponseHead, Upgraded
from whook.link import Exchange, ExchangeReset
from whook.wire import Response
from whook_cli.pool import Connection
from whook_cli.reasons import explain
from whook_cli.records import RequestRecord
from whook_cli.upload import Upload

Opened = Callable[[RequestRecord], None]

INLINE: Final = 32_768
"""Bytes that the socket buffers of a connection take at once, so that sending them never waits for the
local server to read them, and it for us to read its response."""
RECEIVE: Final = 65_536
"""Bytes read from the local server at once."""
LINGER: Final = 10.0
"""Seconds without progress that the rest of a request may take once its response has ended."""

_SWITCHING = 101
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Attempt:
    """One attempt.

    Attributes:
        failure: what the local server did wrong, as the end of a sentence; empty if nothing.
        untouched: not a byte of a response has come.
        head_sent: a final response head has gone to the sender, so no other answer can.
        reusable: the connection may carry another request.
    """

    __slots__ = (
        "_connection", "_ended", "_exchange", "_keep_alive", "_linger", "_opened", "_record",
        "_response_done", "_sent", "_upgraded", "_upload", "_uploading",
        "failure", "head_sent", "reusable", "untouched",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        record: RequestRecord,
        connection: Connection,
        upload: Upload,
        opened: Opened,
    ) -> None:
        self._exchange = exchange
        self._record = record
        self._connection = connection
        self._upload = upload
        self._opened = opened
        self.failure = ""
        self.untouched = True
        self.head_sent = False
        self.reusable = False
        self._sent = False
        self._ended = False
        self._response_done = False
        self._keep_alive = False
        self._upgraded = False
        self._uploading = False
        self._linger: trio.CancelScope | None = None

    async def run(self) -> None:
        """Carry the exchange; the outcome is in the attributes, or in `exchange.failure`."""
        upload = self._upload
        if upload.held or (upload.ended and len(upload.ready) <= INLINE):
            try:
                await self._connection.stream.send_all(upload.ready)
                self._sent = True
            except _GONE:
                pass  # there may be a response nevertheless; if not, receiving says so
            await self._receive()
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_request, upload.ready)
                await self._receive()
                self._let_finish(nursery.cancel_scope)
        self.reusable = self._sent and self._keep_alive and self._response_done

    def _let_finish(self, sending: trio.CancelScope) -> None:
        """Decide, at the end of the response, about what is still to be sent."""
        if self._response_done:
            sending.deadline = trio.current_time() + LINGER
            self._linger = sending
        else:
            sending.cancel(reason="no response will follow")

    # -- towards the local server ---------------------------------------------------------------------

    async def _send_request(self, ready: bytes) -> None:
        upload, stream = self._upload, self._connection.stream
        self._uploading = True
        try:
            if ready:
                await stream.send_all(ready)
            while not upload.ended:
                piece = await upload.next_piece()
                if piece:
                    await stream.send_all(piece)
                if self._linger is not None:
                    self._linger.deadline = trio.current_time() + LINGER
            self._sent = True
            if self._upgraded:
                await self._connection.send_eof()
        except (*_GONE, ExchangeReset):
            return  # the receiving side finds out and decides

    # -- from the local server ------------------------------------------------------------------------

    async def _receive(self) -> None:
        parser, receive_some = self._connection.parser, self._connection.stream.receive_some
        parser.expect(self._exchange.request.method, upgrade=self._upload.may_upgrade)
        try:
            while not (self._response_done or self.failure):
                try:
                    data = await receive_some(RECEIVE)
                except _GONE as error:
                    self._broke_off(explain(error))
                    return
                if data:
                    self.untouched = False
                    await self._handle(parser.feed(bytes(data)))
                    continue
                await self._handle([event for event in parser.eof() if not isinstance(event, Failed)])
                if not self._response_done:
                    self._broke_off("")
                return
        except ExchangeReset:
            return  # nobody waits for the rest; `exchange.failure` says why

    def _broke_off(self, why: str) -> None:
        if not self.failure or not self.head_sent:
            when = "in the middle of its response" if self.head_sent else "without an answer"
            self.failure = f"closed the connection {when}" + (f" ({why})" if why else "")

    async def _handle(self, events: Sequence[ResponseEvent]) -> None:
        exchange, record = self._exchange, self._record
        for index, event in enumerate(events):
            if isinstance(event, Body):
                data = event.data
                record.response_bytes += len(data)
                if record.details is not None:
                    record.details.response_body.add(data)
                self._ended = _ends_after(events, index)
                await exchange.send_data(data, end=self._ended)
            elif isinstance(event, ResponseHead):
                self._head(event, ended=_ends_after(events, index))
            elif isinstance(event, End):
                if not self._ended:
                    exchange.send_end(event.trailers)
                self._response_done = True
                # Bytes behind a response belong to no request of ours: the connection cannot be trusted.
                self._keep_alive = self._keep_alive and index + 1 == len(events)
                return
            elif isinstance(event, Upgraded):
                await self._pass_raw(b"".join(e.data for e in events[index:] if isinstance(e, Upgraded)))
                return
            else:
                self.failure = f"sent something that is no HTTP response: {event.error.detail.rstrip('.')}"
            if self.failure:
                return

    def _head(self, head: ResponseHead, *, ended: bool) -> None:
        status, record = head.status, self._record
        response = Response(status, head.reason, head.headers)
        if status < 200 and status != _SWITCHING:
            self._exchange.send_head(response)
            return
        try:
            self._exchange.send_head(response, end=ended)
        except ValueError:
            self.failure = "sent a response head that is too large"
            return
        self.head_sent = True
        self._ended = ended
        self._keep_alive = head.keep_alive
        record.status = status
        if (details := record.details) is not None:
            details.response_reason = head.reason
            details.response_headers = head.headers
        if status == _SWITCHING or _is_event_stream(head):
            self._opened(record)

    async def _pass_raw(self, first: bytes) -> None:
        """Pass raw bytes both ways until both sides have ended (RFC 9110 section 7.8)."""
        self._upgraded = True
        if self._uploading:  # it goes on with what follows the request's body
            if self._sent:
                await self._connection.send_eof()
            await self._pass_down(first)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_request, b"")
            await self._pass_down(first)
            self._let_finish(nursery.cancel_scope)

    async def _pass_down(self, data: bytes) -> None:
        exchange, record = self._exchange, self._record
        receive_some = self._connection.stream.receive_some
        try:
            while True:
                if data:
                    record.response_bytes += len(data)
                    await exchange.send_data(data)
                data = bytes(await receive_some(RECEIVE))
                if not data:
                    exchange.send_end()
                    self._response_done = True
                    return
        except _GONE as error:
            self._broke_off(explain(error))
        except ExchangeReset:
            return


def _ends_after(events: Sequence[ResponseEvent], index: int) -> bool:
    """Whether the event after this one is an end without trailers, which can travel with this one."""
    if index + 1 == len(events):
        return False
    following = events[index + 1]
    return isinstance(following, End) and not following.trailers


def _is_event_stream(head: ResponseHead) -> bool:
    for name, value in head.headers:
        if name.lower() == b"content-type":
            return value.lower().startswith(b"text/event-stream")
    return False
