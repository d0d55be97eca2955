"""Admission: so much work a second and so much at once, and the others told when to come back.

A relay asks for a place once a client's token has proved good, so that strangers cannot use the places up,
and gives it back when the tunnel is open; a conductor asks before it decides about a tunnel. Its tables
change synchronously; nothing here waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

#: Seconds after which a refused client may come back at the soonest.
_SOONEST: Final = 1.0
#: Longest Retry-After in seconds: by then much may have changed.
_LATEST: Final = 60.0


class Admission:
    """The places of one process."""

    def __init__(self, rate: float, at_once: int, clock: Callable[[], float] = trio.current_time) -> None:
        """`rate` is in entries a second; up to a second's worth may come together."""
        self._rate = rate
        self._at_once = at_once
        self._clock = clock
        self._tokens = self._most = max(1.0, rate)
        self._filled = clock()
        self._slot = -math.inf
        self.under_way = 0
        self.refused = 0

    def enter(self) -> Place | float:
        """Take a place; without one, return the seconds after which there will be.

        Each refusal is given a time of its own, at the rate at which they can be admitted: a storm of
        reconnects comes back spread out instead of all at once.
        """
        now = self._clock()
        self._tokens = min(self._most, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens >= 1.0 and self.under_way < self._at_once:
            self._tokens -= 1.0
            self.under_way += 1
            return Place(self)
        return self.refuse()

    def refuse(self) -> float:
        """Take no place; return the seconds after which there will be one.

        Also for those who are refused before it is known whether they may have one.
        """
        now = self._clock()
        self.refused += 1
        self._slot = min(max(self._slot, now + _SOONEST) + 1 / self._rate, now + _LATEST)
        return self._slot - now


class Place:
    """One entry under way."""

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission: Admission | None = admission

    def leave(self) -> None:
        """Give the place back; doing so again changes nothing."""
        if self._admission is not None:
            self._admission.under_way -= 1
            self._admission = None
