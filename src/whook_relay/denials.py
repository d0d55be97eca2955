"""Tells auth's audit trail, over the bus, whom this relay refused. Bounded in rate; the log has them as well.

Called by `tunnels` for each token that does not hold. It must never tell anything of the token, nor keep
a client waiting for the bus.
"""

from __future__ import annotations

from typing import Final

import trio

from whook.backplane.ports import TOPIC_AUDIT, Bus, Denied, Unavailable, encode_event
from whook.chassis.logs import get_logger

BURST: Final = 200
"""Refusals told in a row."""
PER_SECOND: Final = 20.0
"""Refusals told each second for long; the others are only counted."""
PATIENCE: Final = 1.0
"""Seconds that the bus may take."""

_log = get_logger("whook.relay.denials")


class Denials:
    """The refusals of one relay."""

    def __init__(self, bus: Bus, relay_id: str) -> None:
        self._bus = bus
        self._relay_id = relay_id
        self._level = float(BURST)
        self._at = trio.current_time()
        self._suppressed = 0

    async def tell(self, address: str, reason: str) -> None:
        """Tell that somebody at ``address`` was refused. Whatever goes wrong is only logged."""
        _log.info("refused", peer=address, reason=reason)
        now = trio.current_time()
        self._level = min(BURST, self._level + (now - self._at) * PER_SECOND)
        self._at = now
        if self._level < 1:
            self._suppressed += 1
            return
        self._level -= 1
        denied = Denied(relay_id=self._relay_id, address=address, reason=reason, suppressed=self._suppressed)
        self._suppressed = 0
        with trio.move_on_after(PATIENCE):
            try:
                await self._bus.publish(TOPIC_AUDIT, encode_event(denied))
            except Unavailable as error:
                _log.warning("a refusal was not told", error=str(error))
