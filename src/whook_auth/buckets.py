"""Token buckets by key: how often something may happen in a row, and how often for long.

Used by the audit trail and by the throttle. In memory of this process, bounded in number; the clock is given.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import trio

KEYS = 10_000
"""Buckets kept, at about 200 bytes each. The one used longest ago makes room, and is full when it returns."""


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float
    refused: int = 0


class Buckets:
    """One bucket for each key, all of one size."""

    def __init__(
        self, burst: float, per_second: float, clock: Callable[[], float] = trio.current_time
    ) -> None:
        """``burst`` is what a bucket holds when it is full, ``per_second`` what flows in."""
        self._burst = burst
        self._rate = per_second
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one; return 0.0, or the seconds until there is one again if the bucket is empty."""
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= KEYS:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = _Bucket(self._burst, now)
        self._buckets.move_to_end(key)
        bucket.level = min(self._burst, bucket.level + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.level >= 1:
            bucket.level -= 1
            return 0.0
        bucket.refused += 1
        return (1 - bucket.level) / self._rate

    def refused(self, key: str) -> int:
        """Return how often the bucket was found empty since this was last asked."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0
        count, bucket.refused = bucket.refused, 0
        return count
