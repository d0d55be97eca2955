"""What a process knows of Redis's clock: enough to say when a call has been given up.

Directory and queue have one each. Redis runs, after a pause, what came to it meanwhile; with the time at
which the caller gave up, a script can do nothing instead.
"""

from __future__ import annotations

from typing import Final

import trio

from whook.backplane.redis.bridge import CALL_SECONDS

CALL_MILLISECONDS: Final = round(CALL_SECONDS * 1000)

CLOCK_SINKS: Final = 10
"""Milliseconds by which the estimate of Redis's clock falls with each answer that does not confirm it."""


class RedisClock:
    """An estimate of Redis's clock, from its answers."""

    def __init__(self) -> None:
        self._ahead = 0.0
        """Milliseconds by which Redis's clock is ahead of Trio's; 0 before the first answer."""

    def latest(self) -> int:
        """Return when a call that begins now is given up, in milliseconds of Redis's clock; 0: not known."""
        return round(trio.current_time() * 1000 + self._ahead) + CALL_MILLISECONDS if self._ahead else 0

    def heard(self, now: int) -> None:
        """Take note of what Redis's clock said, in milliseconds.

        It is behind the truth by the answer's way, so the greatest is the best, and Redis rather refuses a
        call that came at the last moment than run one that was given up. It sinks, in case that Redis's clock
        is set back.
        """
        self._ahead = max(now - trio.current_time() * 1000, self._ahead - CLOCK_SINKS)
