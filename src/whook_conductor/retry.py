"""Pauses between attempts: exponential backoff with full jitter.

Used by every task of this package that must go on after something it needs was not there. A pause is never
zero, so that nothing spins.
"""

from __future__ import annotations

import random
from typing import Final

import trio

_FIRST: Final = 0.1
_LEAST: Final = 0.02


class Retry:
    """Counts failures in a row; each pause is drawn between almost nothing and a bound that doubles.

    Full jitter keeps many conductors that lost the same thing from coming back to it in step.
    """

    def __init__(self, cap: float = 5.0) -> None:
        """`cap` is the longest pause in seconds."""
        self._cap = cap
        self._failures = 0

    def reset(self) -> None:
        """Note a success: the next pause is short again."""
        self._failures = 0

    def next(self) -> float:
        """Count a failure and return the seconds to wait before the next attempt."""
        bound = min(self._cap, _FIRST * 2 ** min(self._failures, 16))
        self._failures += 1
        return random.uniform(_LEAST, max(bound, _LEAST))  # noqa: S311 - spreading load

    async def pause(self) -> None:
        """Sleep before the next attempt."""
        await trio.sleep(self.next())
