"""The CLI's end of a tunnel: runs a task for each exchange that is opened to it."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from whook.link.core import Link
from whook.link.errors import ExchangeReset
from whook.link.exchange import Exchange, ExchangeTable
from whook.wire import GoAway, GoAwayCode, Opened, ResetCode, Role, encode_goaway, encode_reset

Handler = Callable[[Exchange], Awaitable[None]]

#: Exchanges on one tunnel at once unless told otherwise: more than a local server in development answers in
#: parallel, and a bound on the memory that bodies can take.
MAX_EXCHANGES: Final = 256


class Answerer(ExchangeTable):
    """Answers exchanges on a link that has been introduced.

    `handler(exchange)` runs in a task of its own, cancelled when the peer gives the exchange up or the link
    dies; what it leaves unfinished is reset. It may let `ExchangeReset` pass; whatever else it raises is a
    defect and ends `run()`.
    """

    def __init__(
        self,
        link: Link,
        handler: Handler,
        *,
        max_exchanges: int = MAX_EXCHANGES,
        on_goaway: Callable[[GoAway], None] | None = None,
    ) -> None:
        super().__init__(link, Role.ANSWERER)
        self._handler = handler
        self._max = max_exchanges
        self._on_goaway = on_goaway
        self._scopes: dict[int, trio.CancelScope] = {}
        self._draining = False
        self._accepting = True
        self._idle: trio.Event | None = None
        self._spawn: Callable[[Exchange], None] | None = None

    @property
    def running(self) -> int:
        """Handlers that have not returned."""
        return len(self._scopes)

    def opened(self, event: Opened) -> None:
        """Start a handler, or refuse when draining or full."""
        stream = event.stream
        if not self._accepting or len(self._scopes) >= self._max:
            code = ResetCode.OVERLOADED if self._accepting else ResetCode.DRAINING
            reason = (
                f"{self._max} exchanges are running" if self._accepting else "the client is shutting down"
            )
            self.link.send(self.endpoint.reset(stream, code, reason) or encode_reset(stream.id, code, reason))
            return
        exchange = Exchange(self, stream, event.request, request_ended=event.ended)
        self._scopes[stream.id] = trio.CancelScope()
        if self._spawn is not None:
            self._spawn(exchange)

    def was_reset(self, exchange: Exchange) -> None:
        """Cancel the handler: nobody waits for its answer."""
        scope = self._scopes.get(exchange.id)
        if scope is not None:
            scope.cancel(reason="the exchange was reset")

    def went_away(self, goaway: GoAway) -> None:
        """Pass the peer's announcement on."""
        if self._on_goaway is not None:
            self._on_goaway(goaway)

    def drain(self, reason: str, *, accept: bool = False) -> None:
        """Tell the peer to open no new exchanges; those that run go on.

        What the peer had opened before it heard of it is refused, or with `accept` still answered.
        """
        self._accepting = accept
        if not self._draining:
            self._draining = True
            self.link.send(encode_goaway(GoAwayCode.DRAIN, reason))

    async def wait_idle(self) -> None:
        """Wait until no handler runs."""
        while self._scopes:
            if self._idle is None:
                self._idle = trio.Event()
            await self._idle.wait()

    async def run(self) -> str:
        """Carry exchanges until the link ends; then cancel the handlers and return why it ended."""
        async with trio.open_nursery() as handlers:
            self._spawn = lambda exchange: handlers.start_soon(
                self._handle, exchange, name=f"{self.link.name} exchange {exchange.id}"
            )
            try:
                reason = await self.link.run(self.receive)
            finally:
                self._spawn = None
                self.abandon(ResetCode.TUNNEL_LOST, self.link.close_reason)
            handlers.cancel_scope.cancel(reason=reason)
        return reason

    async def _handle(self, exchange: Exchange) -> None:
        try:
            with self._scopes[exchange.id], exchange:
                await self._handler(exchange)
        except* ExchangeReset:
            pass  # nobody waits for its answer any more
        finally:
            del self._scopes[exchange.id]
            if not self._scopes and self._idle is not None:
                self._idle.set()
                self._idle = None
