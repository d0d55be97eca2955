"""Slows whoever guesses: passwords, user codes.

Used by accounts and device logins. Two things work together: failures in a row are counted in the store, for
every auth process alike, and each doubles the wait for its account and its address; and a token bucket for
each address in this process's memory bounds attempts before anything is asked of the store. An account waits
a minute at most, so that a stranger cannot lock its owner out for long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

import trio

from whook.backplane.ports import CALLER, AuthStore
from whook_auth.buckets import Buckets

ATTEMPTS = (20, 0.5)
"""Attempts of one address in this process: in a row, and each second for long."""
FORGET = timedelta(hours=1)
"""Failures are forgotten when none was added for so long."""


@dataclass(frozen=True, slots=True)
class _Rule:
    free: int
    """Failures in a row that cost nothing."""
    longest: int
    """Longest wait in seconds."""


ACCOUNT = _Rule(free=5, longest=60)
ADDRESS = _Rule(free=20, longest=900)


class ThrottledError(Exception):
    """Try again in ``retry_after`` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many attempts: try again in {retry_after} s")
        self.retry_after = retry_after


KINDS = ("login", "user code")
"""What is attempted."""


class Throttle:
    """Decides whether an attempt may be made now."""

    def __init__(
        self,
        store: AuthStore,
        now: Callable[[], datetime],
        *,
        attempts: tuple[float, float] = ATTEMPTS,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """``now`` tells the time in UTC; ``clock`` gives seconds that only grow."""
        self._store = store
        self._now = now
        self._buckets = Buckets(*attempts, clock)
        self.counts = {(kind, result): 0 for kind in KINDS for result in ("made", "succeeded", "throttled")}
        """Attempts by what is attempted: those that were checked, those of them that succeeded, and those
        that came too soon."""

    async def attempt(self, kind: str, account: str = "") -> None:
        """Count an attempt as failed; `succeeded` takes that back. Raises ThrottledError.

        Counted before it is checked, so that guesses made at once are no cheaper than one after another.
        """
        wait = self._buckets.take(CALLER.get())
        if wait:
            self.counts[kind, "throttled"] += 1
            raise ThrottledError(ceil(wait))
        keys = self._keys(kind, account)
        waits = [await self._wait(key, rule) for key, rule in keys]
        longest = max(waits)
        if longest > 0:
            self.counts[kind, "throttled"] += 1
            raise ThrottledError(ceil(longest))
        self.counts[kind, "made"] += 1
        now = self._now()
        for key, _ in keys:
            await self._store.count_failure(key, now, now - FORGET)

    async def succeeded(self, kind: str, account: str = "") -> None:
        """Take back an attempt that was no guess; the account's failures before it are forgotten.

        Not those of the address: whoever guesses could have them forgotten with an account of its own.
        """
        self.counts[kind, "succeeded"] += 1
        for key, rule in self._keys(kind, account):
            await self._store.forgive_failure(key, everything=rule is ACCOUNT)

    async def _wait(self, key: str, rule: _Rule) -> float:
        failed = await self._store.failures(key)
        if failed is None or failed.count < rule.free or self._now() - failed.last_at > FORGET:
            return 0.0
        seconds = min(rule.longest, 2 ** min(failed.count - rule.free, 20))
        return (failed.last_at + timedelta(seconds=seconds) - self._now()).total_seconds()

    def _keys(self, kind: str, account: str) -> list[tuple[str, _Rule]]:
        keys = [(f"{kind} from {CALLER.get()}"[:320], ADDRESS)]
        if account:
            keys.append((f"{kind} of {account}"[:320], ACCOUNT))
        return keys
