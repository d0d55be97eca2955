"""Accounts and browser sessions: who there is, who logs in, and how long a login holds.

Called by the API, the pages and the command `create-admin`. Every change is audited with it. It must never
log or return a password or a cookie, except a new cookie once.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from whook.backplane.ports import Account, AuthStore, Kick, Session
from whook.chassis.ids import new_id
from whook_auth.audit import AuditTrail
from whook_auth.passwords import Passwords
from whook_auth.service import AuthService
from whook_auth.throttle import Throttle, ThrottledError

SESSION_LIFETIME = timedelta(hours=12)
"""A browser's login holds for a working day."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?\Z", re.ASCII)


class LoginFailedError(Exception):
    """Name and password do not belong together. It does not say which of them is wrong."""


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser that is logged in."""

    account: Account
    cookie: str

    @property
    def form_token(self) -> str:
        """What a form of this session carries, so that no other site can send it."""
        return form_token(self.cookie)

    def __repr__(self) -> str:
        return f"<Browser of {self.account.name}>"


def form_token(cookie: str) -> str:
    """Return the token for forms that goes with a cookie, and from which the cookie cannot be found."""
    return hashlib.sha256(b"whook form " + cookie.encode()).hexdigest()


def check_user_name(name: str) -> str:
    """Return ``name`` if a user may have it. Raises ValueError."""
    if not _NAME.match(name):
        raise ValueError(
            "a user name has 1 to 64 lower-case letters, digits, '.', '_' and '-', and begins and ends with "
            "a letter or digit"
        )
    return name


class Accounts:
    """The accounts of one auth service."""

    def __init__(
        self,
        store: AuthStore,
        auth: AuthService,
        passwords: Passwords,
        throttle: Throttle,
        now: Callable[[], datetime],
    ) -> None:
        """``now`` tells the time in UTC."""
        self._store = store
        self._auth = auth
        self._passwords = passwords
        self._throttle = throttle
        self._now = now

    @property
    def _trail(self) -> AuditTrail:
        return self._auth.trail

    async def create(self, name: str, password: str, *, admin: bool, actor: str) -> Account | None:
        """Make an account; None if the name is taken. Raises ValueError for a bad name or password."""
        account = Account(
            id=new_id("usr"),
            name=check_user_name(name),
            created_at=self._now(),
            password_hash=await self._passwords.hash(password),
            admin=admin,
        )
        detail = "an admin" if admin else ""
        entry = self._trail.entry("user.create", actor=actor, target=name, detail=detail)
        return account if await self._store.add_account(account, entry) else None

    async def find(self, name: str) -> Account | None:
        """Return the account of that name."""
        return await self._store.account(name=name)

    async def list(self) -> list[Account]:
        """Return all accounts by name."""
        return await self._store.accounts()

    async def disable(self, account: Account, *, actor: str) -> None:
        """Disable an account: its tokens and sessions end, its tunnels close."""
        entry = self._trail.entry("user.disable", actor=actor, target=account.name)
        await self._store.disable_account(account.id, self._now(), entry)
        # Also if it was disabled before: the earlier call may have failed to tell the relays.
        await self._auth.kick(Kick(user_id=account.id, reason="the account was disabled"))

    async def set_password(self, account: Account, password: str, *, actor: str) -> None:
        """Set a password and end the browser sessions. Raises ValueError for a bad one."""
        hashed = await self._passwords.hash(password)
        entry = self._trail.entry("user.password", actor=actor, target=account.name)
        await self._store.set_password(account.id, hashed, audit=entry)

    async def check_password(self, name: str, password: str) -> Account:
        """Return the account that name and password open.

        Raises LoginFailedError, ThrottledError and PasswordsBusyError. It takes as long for a name that does
        not exist as for one that does.
        """
        name = name.strip()[:64]
        try:
            await self._throttle.attempt("login", name)
        except ThrottledError:
            await self._trail.refused("login", actor=name, detail="too many attempts")  # noqa: ASYNC120
            raise
        account = await self._store.account(name=name) if name else None
        usable = account is not None and account.disabled_at is None
        stored = account.password_hash if account is not None and usable else None
        if not await self._passwords.verify(stored, password) or account is None or stored is None:
            await self._trail.refused("login", actor=name, detail="wrong name or password")
            raise LoginFailedError
        await self._throttle.succeeded("login", name)
        if self._passwords.outdated(stored):
            entry = self._trail.entry("user.rehash", actor=name, target=name)
            hashed = await self._passwords.hash(password)
            await self._store.set_password(account.id, hashed, audit=entry)
        return account

    async def log_in(self, name: str, password: str) -> Browser:
        """Begin a session, always under a new cookie. Raises as `check_password`."""
        account = await self.check_password(name, password)
        cookie = secrets.token_urlsafe(32)
        now = self._now()
        session = Session(
            digest=_digest(cookie), user_id=account.id, created_at=now, expires_at=now + SESSION_LIFETIME
        )
        await self._store.add_session(session, self._trail.entry("login", actor=account.name))
        return Browser(account, cookie)

    async def browser(self, cookie: str) -> Browser | None:
        """Return who is logged in under a cookie."""
        found = await self._store.session(_digest(cookie)) if cookie else None
        if found is None or found[0].expires_at <= self._now() or found[1].disabled_at is not None:
            return None
        return Browser(found[1], cookie)

    async def log_out(self, browser: Browser) -> None:
        """End a session."""
        entry = self._trail.entry("logout", actor=browser.account.name)
        await self._store.end_session(_digest(browser.cookie), entry)


def _digest(cookie: str) -> bytes:
    # 256 random bits: see access_token.digest.
    return hashlib.sha256(cookie.encode()).digest()


async def create_admin(
    store: AuthStore,
    name: str,
    password: str,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    passwords: Passwords | None = None,
) -> bool:
    """Make an admin account, or make an existing one an admin with this password; return whether it is new.

    For the command `whook-auth create-admin`, which has the database and so may do everything. Raises
    ValueError for a bad name or password.
    """
    trail = AuditTrail(store, now)
    hashed = await (passwords or Passwords()).hash(password)
    account = Account(
        id=new_id("usr"), name=check_user_name(name), created_at=now(), password_hash=hashed, admin=True
    )
    entry = trail.entry(
        "user.create", actor="whook-auth create-admin", target=name, detail="an admin", address="console"
    )
    if await store.add_account(account, entry):
        return True
    found = await store.account(name=name)
    if found is None or found.disabled_at is not None:
        raise ValueError(f"the account {name} is disabled: choose another name")
    entry = trail.entry(
        "user.password",
        actor="whook-auth create-admin",
        target=name,
        detail="made an admin",
        address="console",
    )
    await store.set_password(found.id, hashed, admin=True, audit=entry)
    return False
