"""The conductor's end of a trunk: opens exchanges towards tunnels."""

from collections.abc import Callable
from typing import Final

from whook.link.core import Link
from whook.link.errors import LinkClosed, TooManyExchanges
from whook.link.exchange import Exchange, ExchangeTable
from whook.wire import GoAway, Request, ResetCode, Role, StreamsExhausted

#: Exchanges on one trunk at once; each may hold `INITIAL_CREDIT` bytes either way, so this bounds memory.
MAX_EXCHANGES: Final = 16_384


class Opener(ExchangeTable):
    """Opens exchanges on a link that has been introduced. `run()` carries them until the link ends."""

    def __init__(
        self,
        link: Link,
        *,
        max_exchanges: int = MAX_EXCHANGES,
        on_goaway: Callable[[GoAway], None] | None = None,
    ) -> None:
        super().__init__(link, Role.OPENER)
        self._max = max_exchanges
        self._on_goaway = on_goaway

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
        link.send(frame)
        return exchange

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
