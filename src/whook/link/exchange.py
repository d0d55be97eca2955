"""One exchange (a request and its response) as its own task sees it, and the table of them on one link.

`ExchangeTable` turns received frames into items for the exchanges' queues and calls no code of theirs, so an
exchange that does not keep up delays nobody: its peer runs out of credit. `whook.link.opener` and
`whook.link.answerer` are its two users.
"""

from collections import deque
from types import TracebackType
from typing import Self

from whook.link.core import HIGH_WATER, Link
from whook.link.errors import ExchangeReset, LinkClosed
from whook.link.wakeup import Wakeup
from whook.wire import (
    DATA_CHUNK,
    CreditReceived,
    DataReceived,
    Ended,
    Endpoint,
    Frame,
    GoAway,
    GoAwayReceived,
    Headers,
    HeadReceived,
    Opened,
    Request,
    ResetCode,
    Response,
    Role,
    Stream,
    WasReset,
)

#: What `Exchange.receive` returns. `.ended` is true on the last item of the peer's direction.
Item = HeadReceived | DataReceived | Ended


class Exchange:
    """A request and its response over a link. Use as a context manager: leaving it unfinished resets it.

    One task receives; one task sends (it may be another).

    Attributes:
        id: stream id on this link.
        request: the request's head.
        watch: a copy for an onlooker; nothing may be sent.
        request_ended: the request had no body (answerer).
        failure: set once the exchange was reset or its link died.
    """

    __slots__ = (
        "_credit",
        "_inbox",
        "_incoming",
        "_stream",
        "_table",
        "failure",
        "request",
        "request_ended",
    )

    def __init__(
        self, table: "ExchangeTable", stream: Stream, request: Request, *, request_ended: bool
    ) -> None:
        self._table = table
        self._stream = stream
        self._inbox: deque[Item] = deque()
        self._incoming = Wakeup()
        self._credit: Wakeup | None = None
        self.request = request
        self.request_ended = request_ended
        self.failure: ExchangeReset | None = None
        stream.owner = self

    @property
    def id(self) -> int:
        """Stream id on this link."""
        return self._stream.id

    @property
    def watch(self) -> bool:
        """True for a copy that must not be answered."""
        return self._stream.watch

    @property
    def finished(self) -> bool:
        """True once both directions have ended or the exchange was reset."""
        return self._stream.id not in self._table.endpoint.streams

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.reset(ResetCode.CANCELLED)

    # -- receiving ------------------------------------------------------------------------------------

    async def receive(self) -> Item:
        """Return the next item the peer sent; taking data grants its sender credit for more.

        Everything received before a reset is still returned first. Must not be called after an item with
        `ended`.

        Raises:
            ExchangeReset: the peer gave the exchange up, or the link died.
        """
        while (item := self.receive_nowait()) is None:
            await self._incoming.wait()
        return item

    def receive_nowait(self) -> Item | None:
        """Return the next item if one is here already, else None; raises like `receive`."""
        inbox = self._inbox
        if not inbox:
            if self.failure is not None:
                raise self.failure
            return None
        item = inbox.popleft()
        if type(item) is DataReceived and not item.ended:
            grant = self._table.endpoint.consume(self._stream, len(item.data))
            if grant:
                self._table.link.send(grant)
        return item

    # -- sending --------------------------------------------------------------------------------------

    def send_head(self, response: Response, *, end: bool = False) -> None:
        """Answer with a head; informational ones (1xx) may come before the final one.

        Raises:
            ExchangeReset: the exchange is over.
            ValueError: the head does not fit the wire (`MAX_PAYLOAD`).
            StreamClosed: a head was sent already.
        """
        self._check()
        self._table.link.send(self._table.endpoint.send_head(self._stream, response, end=end))

    async def send_data(self, data: bytes, *, end: bool = False) -> None:
        """Send a piece of the body, waiting for credit where needed; a checkpoint only when it waits.

        Raises:
            ExchangeReset: the exchange is over.
        """
        size = len(data)
        stream, table = self._stream, self._table
        if size <= DATA_CHUNK and size <= stream.credit and table.link.pending <= HIGH_WATER:
            self._check()
            table.link.send_frame(table.endpoint.begin_data(stream, size, end=end), data)
            return
        at, whole = 0, memoryview(data)
        while at < size:
            await self._wait_sendable()
            take = min(DATA_CHUNK, stream.credit, size - at)
            last = at + take == size
            header = table.endpoint.begin_data(stream, take, end=end and last)
            table.link.send_frame(header, whole[at : at + take])
            at += take
        if end and not size:
            self.send_end()

    def send_end(self, trailers: Headers | None = None) -> None:
        """End this direction, with trailers or without. Raises `ExchangeReset`, `StreamClosed`."""
        self._check()
        self._table.link.send(self._table.endpoint.send_end(self._stream, trailers or []))

    def reset(self, code: ResetCode, message: str = "") -> None:
        """Give the exchange up, both ways. Does nothing once it has finished."""
        frame = self._table.endpoint.reset(self._stream, code, message)
        if frame:
            self._table.link.send(frame)
            self._fail(ExchangeReset(code, message))

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _wait_sendable(self) -> None:
        while True:
            self._check()
            if self._stream.credit:
                break
            if self._credit is None:
                self._credit = Wakeup()
            await self._credit.wait()
        if self._table.link.pending > HIGH_WATER:
            try:
                await self._table.link.wait_writable()
            except LinkClosed as error:
                raise ExchangeReset(ResetCode.TUNNEL_LOST, str(error)) from error
            self._check()

    # -- called by the table --------------------------------------------------------------------------

    def _deliver(self, item: Item) -> None:
        self._inbox.append(item)
        self._incoming.wake()

    def _fail(self, failure: ExchangeReset) -> None:
        if self.failure is None:
            self.failure = failure
        self._incoming.wake()
        if self._credit is not None:
            self._credit.wake()

    def _credited(self) -> None:
        if self._credit is not None:
            self._credit.wake()


class ExchangeTable:
    """All exchanges of one link; feeds them what is received.

    Subclasses decide what opening means: the opener opens, the answerer is opened to.
    """

    def __init__(self, link: Link, role: Role) -> None:
        self.link = link
        self.endpoint = Endpoint(role)
        self.goaway: GoAway | None = None

    @property
    def active(self) -> int:
        """Exchanges that have not finished."""
        return len(self.endpoint.streams)

    def receive(self, frames: list[Frame]) -> None:
        """Take frames from the link's reader. Raises `ProtocolError` when the peer broke the link's rules."""
        endpoint = self.endpoint
        for event in endpoint.receive(frames):
            kind = type(event)
            if kind is HeadReceived or kind is DataReceived or kind is Ended:
                exchange = event.stream.owner  # type: ignore[union-attr]
                if exchange is not None:
                    exchange._deliver(event)  # noqa: SLF001 - the table is the other half of Exchange
            elif kind is WasReset:
                self._reset(event)  # type: ignore[arg-type]
            elif kind is CreditReceived:
                exchange = event.stream.owner  # type: ignore[union-attr]
                if exchange is not None:
                    exchange._credited()  # noqa: SLF001
            elif kind is Opened:
                self.opened(event)  # type: ignore[arg-type]
            elif kind is GoAwayReceived:
                self.goaway = event.goaway  # type: ignore[union-attr]
                self.went_away(event.goaway)  # type: ignore[union-attr]
        replies = endpoint.take_replies()
        if replies:
            self.link.send(replies)

    def _reset(self, event: WasReset) -> None:
        exchange = event.stream.owner
        if exchange is not None:
            exchange._fail(ExchangeReset(event.code, event.message))  # noqa: SLF001
            self.was_reset(exchange)

    def abandon(self, code: ResetCode, message: str) -> None:
        """Fail every exchange, because the link is gone."""
        streams = list(self.endpoint.streams.values())
        self.endpoint.streams.clear()
        for stream in streams:
            if stream.owner is not None:
                stream.owner._fail(ExchangeReset(code, message))  # noqa: SLF001
                self.was_reset(stream.owner)

    def opened(self, event: Opened) -> None:
        """Handle a request that came in."""

    def was_reset(self, exchange: Exchange) -> None:
        """Handle an exchange that the peer gave up."""

    def went_away(self, goaway: GoAway) -> None:
        """Handle the peer's announcement that it takes no new exchanges."""
