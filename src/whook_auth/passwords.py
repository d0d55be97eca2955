"""Passwords: argon2id in worker threads, a few at a time.

Used by the accounts. Nothing here may keep, log or return a password. Parameters are the second choice of
RFC 9106 section 4 (64 MiB, 3 passes), which is above what OWASP asks for, with one lane: lanes of one hash
would only compete with other hashes for the same processors.
"""

from __future__ import annotations

import os
import secrets

import trio
from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

MIN_LENGTH = 12
"""Shortest password in characters: NIST SP 800-63B asks for at least 8, and for no rules on what is in it."""
MAX_LENGTH = 1_024
"""Longest password in characters: hashing begins with all of it."""

AT_ONCE = max(1, min(4, os.cpu_count() or 1))
"""Hashes at the same time. Each takes 64 MiB and one processor for about a tenth of a second."""
WAITING = 32
"""Callers that may wait for one: they get their answer within seconds, the others are refused."""


class PasswordsBusyError(Exception):
    """Too many passwords are being checked."""


class Passwords:
    """Hashes and verifies passwords."""

    def __init__(self, *, time_cost: int = 3, memory_cost: int = 65_536) -> None:
        """``memory_cost`` is in KiB. Tests make it cheap."""
        self._hasher = PasswordHasher(
            time_cost=time_cost,
            memory_cost=memory_cost,
            parallelism=1,
            hash_len=32,
            salt_len=16,
            type=Type.ID,
        )
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash to store. Raises ValueError for a password that is too short or too long."""
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise ValueError(f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters")
        self._check_room()
        return await trio.to_thread.run_sync(self._hasher.hash, password, limiter=self._limiter)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Return whether the password is right; for nobody (None) it takes as long as for somebody."""
        self._check_room()
        if self._nobodys is None:
            unguessable = secrets.token_urlsafe(32)
            self._nobodys = await trio.to_thread.run_sync(
                self._hasher.hash, unguessable, limiter=self._limiter
            )
        right = await trio.to_thread.run_sync(
            self._matches, stored or self._nobodys, password[:MAX_LENGTH], limiter=self._limiter
        )
        return right and stored is not None and len(password) <= MAX_LENGTH

    def outdated(self, stored: str) -> bool:
        """Return whether the hash was made with other parameters than these."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    def _check_room(self) -> None:
        if self._limiter.statistics().tasks_waiting >= WAITING:
            raise PasswordsBusyError
