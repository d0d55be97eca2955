"""The OAuth 2.0 device authorization grant (RFC 8628): how `whook login` gets its token.

The device asks for two codes, its user approves the short one in a browser, the device redeems the long one.
Called by the API and by the pages. Codes are good once and for ten minutes; only digests of the long ones are
stored. It must never log a code.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from whook.backplane.ports import CALLER, SCOPES, Account, AuthStore, DeviceGrant, StoredToken
from whook_auth.service import AuthService
from whook_auth.throttle import Throttle, ThrottledError

LIFETIME = timedelta(minutes=10)
"""Long enough to find a browser and a password."""
INTERVAL = 5
"""Seconds between polls, and what `slow_down` adds (RFC 8628 sections 3.2 and 3.5)."""
MAX_INTERVAL = 60
OPEN = 1_000
"""Logins that wait for their user at the same time: it also bounds what a guess of a user code can hit."""
DEFAULT_SCOPES = frozenset({"connect", "projects:write", "events:read", "events:replay"})
"""What a device gets that asks for nothing in particular."""

ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
"""No vowels, so that no words come out, and nothing that looks like a digit (RFC 8628 section 6.1)."""
_LENGTH = 8
"""Letters of a user code: 34 bits, and guesses are throttled."""
_CLIENT_LENGTH = 100


class DeviceError(Exception):
    """The device gets an error (RFC 6749 section 5.2, RFC 8628 section 3.5): ``code`` says which."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Begun:
    """Codes for a device."""

    device_code: str
    user_code: str
    interval: int

    def __repr__(self) -> str:
        return "<Begun>"


def read_user_code(typed: str) -> str:
    """Return a user code as it is stored, however it was typed; empty if it can be none."""
    letters = "".join(char for char in typed.upper() if char.isalnum())
    if len(letters) != _LENGTH or any(char not in ALPHABET for char in letters):
        return ""
    return f"{letters[:4]}-{letters[4:]}"


class DeviceLogins:
    """The device logins of one auth service."""

    def __init__(
        self,
        store: AuthStore,
        auth: AuthService,
        throttle: Throttle,
        now: Callable[[], datetime],
        *,
        interval: int = INTERVAL,
    ) -> None:
        """``now`` tells the time in UTC."""
        self._store = store
        self._auth = auth
        self._throttle = throttle
        self._now = now
        self._interval = interval

    async def begin(self, scopes: Iterable[str], client: str) -> Begun:
        """Give a device its codes. Raises DeviceError."""
        wanted = frozenset(scopes) or DEFAULT_SCOPES
        if wanted - SCOPES:
            raise DeviceError("invalid_scope", f"the scopes are {', '.join(sorted(SCOPES))}")
        now = self._now()
        device_code = secrets.token_urlsafe(32)
        letters = "".join(secrets.choice(ALPHABET) for _ in range(_LENGTH))
        grant = DeviceGrant(
            digest=_digest(device_code),
            user_code=read_user_code(letters),
            scopes=wanted,
            client="".join(char for char in client if char.isprintable())[:_CLIENT_LENGTH],
            address=CALLER.get(),
            created_at=now,
            expires_at=now + LIFETIME,
            interval=self._interval,
        )
        if not await self._store.add_device_grant(grant, OPEN):
            raise DeviceError("temporarily_unavailable", "too many logins wait for their users: try again")
        return Begun(device_code, grant.user_code, grant.interval)

    async def redeem(self, device_code: str) -> tuple[str, StoredToken]:
        """Return the token that the user approved. Raises DeviceError."""
        key = _digest(device_code)
        now = self._now()
        grant = await self._store.poll_device(key, now)
        if grant is None or grant.state == "consumed":
            known = grant is not None
            await self._refused(grant, "device code used again" if known else "unknown device code")
            raise DeviceError("invalid_grant", "this device code is not known, or was used")
        if grant.expires_at <= now:
            raise DeviceError("expired_token", "the login took too long: begin again")
        if grant.state == "denied":
            raise DeviceError("access_denied", "the login was denied in the browser")
        if grant.polled_at is not None and (now - grant.polled_at).total_seconds() < grant.interval:
            await self._store.slow_device(key, min(grant.interval + INTERVAL, MAX_INTERVAL))
            raise DeviceError("slow_down", "poll less often")
        account = await self._store.account(user_id=grant.user_id or "") if grant.user_id else None
        if grant.state == "pending" or account is None:
            raise DeviceError("authorization_pending", "the user has not approved the login yet")
        made = await self._auth.redeem_device(key, account, f"login {grant.client}".strip(), grant.scopes)
        if made is None:
            await self._refused(grant, "device code used again")
            raise DeviceError("invalid_grant", "this device code is not known, or was used")
        return made

    async def look_up(self, account: Account, typed: str) -> DeviceGrant | None:
        """Return the login that waits under a user code. Raises ThrottledError for too many wrong ones."""
        try:
            await self._throttle.attempt("user code", account.name)
        except ThrottledError:
            await self._auth.trail.refused("device.look-up", actor=account.name, detail="too many attempts")  # noqa: ASYNC120
            raise
        user_code = read_user_code(typed)
        grant = await self._store.device_grant(user_code) if user_code else None
        if grant is None or grant.state != "pending" or grant.expires_at <= self._now():
            await self._auth.trail.refused("device.look-up", actor=account.name, detail="no such user code")
            return None
        await self._throttle.succeeded("user code", account.name)
        return grant

    async def decide(self, account: Account, grant: DeviceGrant, *, approved: bool) -> bool:
        """Approve or deny; return False if it is too late, or the account may not give those rights."""
        action = "device.approve" if approved else "device.deny"
        if approved and "admin" in grant.scopes and not account.admin:
            await self._auth.trail.refused(action, actor=account.name, detail="not an admin")
            return False
        entry = self._auth.trail.entry(
            action, actor=account.name, target=grant.client, detail=f"asked from {grant.address}"
        )
        return await self._store.decide_device(
            grant.user_code, account.id, approved=approved, at=self._now(), audit=entry
        )

    async def _refused(self, grant: DeviceGrant | None, why: str) -> None:
        client = grant.client if grant is not None else ""
        await self._auth.trail.refused("device.redeem", target=client, detail=why)


def _digest(device_code: str) -> bytes:
    # 256 random bits: see access_token.digest.
    return hashlib.sha256(device_code.encode()).digest()
