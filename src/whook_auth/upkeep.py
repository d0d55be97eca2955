"""What auth does by itself from time to time: old audit entries go, and an old signing key gets a successor.

An infrastructure task of `server`. Every auth process does it; what two do at once is done once. It must
never hold up an answer: it works in small transactions, and what fails is done the next time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
import trio

from whook.backplane.ports import AuthStore, Unavailable
from whook_auth.service import AuthService

INTERVAL: Final = 3600.0
"""Seconds between two rounds, as the mean of a random pause: processes that start together spread."""
BATCH: Final = 500
"""Audit entries looked at in one transaction: a few milliseconds."""

_log = structlog.get_logger("whook.auth.upkeep")


class Upkeep:
    """The chores of one auth process."""

    def __init__(
        self,
        auth: AuthService,
        store: AuthStore,
        *,
        audit_days: float,
        key_days: float,
        now: Callable[[], datetime],
    ) -> None:
        """``now`` tells the time in UTC; 0 days stand for never."""
        self._auth = auth
        self._store = store
        self._audit_age = timedelta(days=audit_days)
        self._key_age = timedelta(days=key_days)
        self._now = now

    async def run(self) -> None:
        """Do them for ever, first at once."""
        while True:
            try:
                await self.do()
            except Unavailable as error:
                _log.warning("chores put off", error=str(error))
            await trio.sleep(INTERVAL * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, keeps no secret

    async def do(self) -> None:
        """Do what is due. Raises Unavailable."""
        if self._key_age and await self._auth.rotate_old_key(self._key_age):
            _log.info("a new key will sign tunnel tokens")
        if self._audit_age:
            before, pruned = self._now() - self._audit_age, 0
            while found := await self._store.prune_audit(before, BATCH):
                pruned += found
            if pruned:
                _log.info("old audit entries deleted", entries=pruned)
