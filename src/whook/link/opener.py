"""The conductor's end of a trunk: opens exchanges towards tunnels."""

import time
from collections.abc import Callable
from typing import Final

from whook.link.core import Link
from whook.link.errors import LinkClosed, TooManyExchanges
from whook.link.exchange import Exchange, ExchangeTable
from whook.wire import GoAway, HeadReceived, Request, ResetCode, Role, StreamsExhausted

#: Exchanges on one trunk at once; each may hold `INITIAL_CREDIT` bytes either way, so this bounds memory.
MAX_EXCHANGES: Final = 16_384


_FINAL: Final = 200  #: the first status that is no informational one (RFC 9110 section 15.2)


class Tally:
    """What became of the exchanges of many openers: plain counters, read by their owner at any time."""

    __slots__ = ("on_head", "opened", "resets")

    def __init__(self, on_head: Callable[[float], None]) -> None:
        """`on_head` is told the seconds from each opening to the final head; it must be quick."""
        self.on_head = on_head
        self.opened = 0
        self.resets: dict[int, int] = dict.fromkeys((*ResetCode, 0), 0)
        """Exchanges that the peer gave up, or that were lost with their link, by the reason; 0 for one
        that a newer peer knows."""


class Opener(ExchangeTable):
    """Opens exchanges on a link that has been introduced. `run()` carries them until the link ends."""

    def __init__(
        self,
        link: Link,
        *,
        max_exchanges: int = MAX_EXCHANGES,
        on_goaway: Callable[[GoAway], None] | None = None,
        tally: Tally | None = None,
    ) -> None:
        super().__init__(link, Role.OPENER)
        self._max = max_exchanges
        self._on_goaway = on_goaway
        self._tally = tally

    def open(self, route: bytes, request: Request, *, body: bytes = b"", end: bool) -> Exchange:
        """Open an exchange; `end` when `body` is all there is. Head and body travel in one message.

        Args:
            route: the tunnel's id, which the relay looks up.
            request: the head.
            body: what is at hand of the body, at most `DATA_CHUNK` bytes.
            end: no more follows.

        Raises:
            LinkClosed: the trunk is gone or going.
            TooManyExchanges: the trunk is full.
            ValueError: the head does not fit the wire.
        """
        link = self.link
        if link.closed or self.goaway is not None:
            raise LinkClosed(link.close_reason or "the relay is going away")
        endpoint = self.endpoint
        if len(endpoint.streams) >= self._max:
            raise TooManyExchanges(f"{self._max} exchanges are running on {link.name}")
        try:
            stream, frame = endpoint.open(route, request, end=end and not body)
        except StreamsExhausted as error:  # a new trunk starts counting anew
            link.finish(str(error))
            raise LinkClosed(str(error)) from None
        if body:
            frame += endpoint.send_data(stream, body, end=end)
        exchange = Exchange(self, stream, request, request_ended=end)
        if self._tally is not None:
            self._tally.opened += 1
            exchange.began = time.monotonic()
        link.send(frame)
        return exchange

    def head_came(self, exchange: Exchange, event: HeadReceived) -> None:
        """Take the time of a final head."""
        if self._tally is not None and event.response.status >= _FINAL:
            self._tally.on_head(time.monotonic() - exchange.began)

    def was_reset(self, exchange: Exchange) -> None:
        """Count it."""
        if self._tally is not None and exchange.failure is not None:
            code = exchange.failure.code
            self._tally.resets[code if code in self._tally.resets else 0] += 1

    def went_away(self, goaway: GoAway) -> None:
        """Pass the peer's announcement on."""
        if self._on_goaway is not None:
            self._on_goaway(goaway)

    async def run(self) -> str:
        """Carry exchanges until the link ends; then fail what is left and return why the link ended."""
        try:
            return await self.link.run(self.receive)
        finally:
            self.abandon(ResetCode.TUNNEL_LOST, self.link.close_reason)
