"""The keys that sign tunnel tokens: which one signs now, which are published, and how one follows another.

Owned by the service, kept in its store, private keys included. It must never hand a private key out.

A key is published before it signs, so that every relay has fetched it by then, and stays published until the
last token that it signed has expired: that is what makes a rotation go unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import trio

from whook.backplane.ports import AuditEntry, AuthStore, StoredKey
from whook.chassis.tunnel_token import LEEWAY, SigningKey, jwks

PUBLISH_AHEAD = timedelta(minutes=10)
"""How long a new key is published before it signs: relays fetch the keys more often than this."""

REFRESH = 60.0
"""Seconds after which the keys are read again: much less than PUBLISH_AHEAD, so that a key which another
auth process made is known here before it has to sign."""


class KeyRing:
    """The signing keys of the store."""

    def __init__(self, store: AuthStore, *, lifetime: timedelta, now: Callable[[], datetime]) -> None:
        """``lifetime`` is the longest that a tunnel token lives, ``now`` tells the time in UTC."""
        self._store = store
        self._lifetime = lifetime
        self._now = now
        self._stored: Sequence[StoredKey] = ()
        self._loaded: dict[str, SigningKey] = {}
        self._read_at = 0.0

    async def open(self) -> None:
        """Read the keys, and make the first one if there is none.

        Auth processes that start together may each make one. All of them are published, so all are good.
        """
        await self._read()
        if self._signing() is None:
            first = SigningKey.generate()
            await self._store.add_signing_key(
                StoredKey(kid=first.kid, private_pem=first.to_pem(), signs_from=self._now())
            )
            await self._read()

    async def signing(self) -> SigningKey:
        """Return the key that signs now."""
        if trio.current_time() - self._read_at > REFRESH:
            await self._read()
        key = self._signing()
        if key is None:
            raise RuntimeError("no key can sign tunnel tokens: the signing_keys table was changed by hand")
        return key

    async def jwks(self) -> dict[str, Any]:
        """Return the public keys by which tunnel tokens are verified, as they are in the store now."""
        await self._read()
        return jwks([self._key(stored) for stored in self._stored if self._in_use(stored)])

    async def rotate_if_older(self, age: timedelta, audit: AuditEntry) -> bool:
        """Rotate if the newest key began to sign so long ago; return whether this process did it.

        Of several auth processes that find it so, one rotates.
        """
        await self._read()
        endless = [key for key in self._stored if key.retires_at is None]
        if not endless or self._now() - endless[-1].signs_from < age:
            return False
        return await self.rotate(audit, after=endless[-1].kid)

    async def rotate(self, audit: AuditEntry | None = None, *, after: str = "") -> bool:
        """Let a new key take over: at once in what is published, after PUBLISH_AHEAD in what signs.

        With ``after``, only if no other process has let one follow that key; return whether it did.
        """
        now = self._now()
        key = SigningKey.generate()
        stored = StoredKey(kid=key.kid, private_pem=key.to_pem(), signs_from=now + PUBLISH_AHEAD)
        last_expiry = stored.signs_from + self._lifetime + timedelta(seconds=LEEWAY)
        # A process that reads the keys late goes on with the old one for as long.
        retire_at = last_expiry + timedelta(seconds=REFRESH)
        rotated = await self._store.add_signing_key(
            stored, retire_others_at=retire_at, after=after, audit=audit
        )
        await self._store.delete_retired_keys(now)
        await self._read()
        return rotated

    async def _read(self) -> None:
        stored = await self._store.signing_keys()
        self._stored = stored
        self._loaded = {key.kid: self._key(key) for key in stored}
        self._read_at = trio.current_time()

    def _signing(self) -> SigningKey | None:
        now = self._now()
        ready = [key for key in self._stored if key.signs_from <= now and self._in_use(key)]
        return self._key(ready[-1]) if ready else None

    def _in_use(self, stored: StoredKey) -> bool:
        return stored.retires_at is None or stored.retires_at > self._now()

    def _key(self, stored: StoredKey) -> SigningKey:
        loaded = self._loaded.get(stored.kid)
        return SigningKey.from_pem(stored.private_pem) if loaded is None else loaded
