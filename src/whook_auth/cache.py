"""Tokens that were found valid a moment ago, so that authenticating again costs one hash.

Owned by the service. It holds digests, never tokens, and is bounded in size and in time: the time is what
another auth process needs to have a revocation noticed here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import trio

from whook.backplane.ports import Principal

FRESH = 2.0
"""Seconds that an entry is believed. A revocation takes effect everywhere within 5 s; this is its share."""

ENTRIES = 4096
"""Entries kept, at about 600 bytes each: more clients than this within two seconds go to the database."""


class PrincipalCache:
    """Principals by the digest of their token."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        """``clock`` gives seconds that only grow."""
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self.revocations = 0
        """Counts what was forgotten. Whoever looks a token up notes it before, see `put`."""

    def get(self, digest: bytes) -> Principal | None:
        """Return what is known and still fresh."""
        found = self._entries.get(digest)
        if found is None or found[1] <= self._clock():
            return None
        return found[0]

    def put(self, digest: bytes, principal: Principal, *, revocations: int) -> None:
        """Keep a principal, unless something was revoked since: the look-up may have missed it."""
        if revocations != self.revocations:
            return
        self._entries.pop(digest, None)
        if len(self._entries) >= ENTRIES:
            self._entries.popitem(last=False)
        self._entries[digest] = (principal, self._clock() + FRESH)

    def forget(self, token_id: str) -> None:
        """Drop a token that is no longer valid."""
        self.revocations += 1
        for digest in [
            key for key, (principal, _) in self._entries.items() if principal.token_id == token_id
        ]:
            del self._entries[digest]

    def forget_user(self, user_id: str) -> None:
        """Drop all tokens of a user."""
        self.revocations += 1
        for digest in [key for key, (principal, _) in self._entries.items() if principal.user_id == user_id]:
            del self._entries[digest]
