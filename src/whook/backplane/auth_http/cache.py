"""Decisions of auth that were positive, remembered for a while: fewer requests, and life during an outage.

Owned by the client. It holds digests of access tokens, never tokens, is bounded in size and time, and forgets
at once what a Kick names, so that a revocation does not wait for anything to expire.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

import trio

from whook.backplane.ports import Kick, Principal

FRESH: Final = 60.0
"""Seconds for which a decision is not asked for again."""
OUTAGE: Final = 900.0
"""Seconds for which it stands while auth is away."""
ENTRIES: Final = 8192
"""Entries of either kind, at about 700 bytes each."""

K = TypeVar("K")
V = TypeVar("V")


class DecisionCache:
    """Who holds a token, and which tunnels were authorized."""

    def __init__(
        self,
        clock: Callable[[], float] = trio.current_time,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``clock`` gives seconds that only grow, ``now`` the time in UTC."""
        self._clock = clock
        self._now = now
        self._principals: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._authorized: OrderedDict[tuple[str, str], tuple[Principal, str, float]] = OrderedDict()
        self.kicks = 0
        """Counts what was forgotten. Whoever asks auth notes it before, see `put_principal`."""

    def principal(self, token: str, *, outage: bool = False) -> Principal | None:
        """Return who holds the token if it is remembered; with ``outage`` also when it is no longer fresh."""
        found = self._principals.get(_digest(token))
        if found is None or not self._stands(found[1], outage=outage):
            return None
        expires_at = found[0].expires_at
        return None if expires_at is not None and expires_at <= self._now() else found[0]

    def put_principal(self, token: str, principal: Principal, *, kicks: int) -> None:
        """Remember who holds a token, unless a Kick came since: the answer may be older than it."""
        if kicks == self.kicks:
            _put(self._principals, _digest(token), (principal, self._clock()))

    def authorized(self, principal: Principal, project: str, *, outage: bool = False) -> str | None:
        """Return the project's id if a tunnel of it is remembered to be the principal's right."""
        found = self._authorized.get((principal.token_id, project))
        return found[1] if found is not None and self._stands(found[2], outage=outage) else None

    def put_authorized(self, principal: Principal, project: str, project_id: str, *, kicks: int) -> None:
        """Remember a right, as `put_principal`."""
        if kicks == self.kicks:
            _put(self._authorized, (principal.token_id, project), (principal, project_id, self._clock()))

    def forget(self, kick: Kick) -> None:
        """Drop what a Kick may mean: too much rather than too little."""
        self.kicks += 1
        project = kick.project
        for digest in [key for key, (who, _) in self._principals.items() if _meant(kick, who)]:
            del self._principals[digest]
        for key in [
            key
            for key, (who, _, _) in self._authorized.items()
            if _meant(kick, who) and project in ("", key[1])
        ]:
            del self._authorized[key]

    def clear(self) -> None:
        """Forget everything: a Kick may have been missed."""
        self.kicks += 1
        self._principals.clear()
        self._authorized.clear()

    def _stands(self, since: float, *, outage: bool) -> bool:
        return self._clock() - since < (OUTAGE if outage else FRESH)


def _meant(kick: Kick, principal: Principal) -> bool:
    return kick.user_id in ("", principal.user_id) and kick.token_id in ("", principal.token_id)


def _put(entries: OrderedDict[K, V], key: K, value: V) -> None:
    entries.pop(key, None)
    if len(entries) >= ENTRIES:
        entries.popitem(last=False)
    entries[key] = value


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
