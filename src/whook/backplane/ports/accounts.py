"""Accounts, project members, device logins, sessions and the audit trail, as auth stores them.

The auth module alone uses AccountStore, as a part of AuthStore. The store keeps what it is told: all rules
are in the auth module. Where a method takes an AuditEntry, the entry is written in the same transaction, and
only if the method changed something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

Role = Literal["owner", "developer", "viewer"]
"""What a member may do: an owner everything, a developer open tunnels, a viewer neither."""

ROLES: tuple[Role, ...] = ("owner", "developer", "viewer")

Outcome = Literal["ok", "refused"]
DeviceState = Literal["pending", "approved", "denied", "consumed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user with what the login needs. Times are in UTC."""

    id: str
    name: str
    created_at: datetime
    password_hash: str | None = None
    """In the PHC string format; None means that no password opens it."""
    admin: bool = False
    """May hold tokens of the scope ``admin``."""
    disabled_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<Account {self.id} {self.name}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """One user's part in one project."""

    project: str
    project_id: str
    user_id: str
    user: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceGrant:
    """A login that a device asked for (RFC 8628). Neither code is kept: only the digest of the device's."""

    digest: bytes
    user_code: str
    scopes: frozenset[str]
    client: str
    """What the device says about itself."""
    address: str
    created_at: datetime
    expires_at: datetime
    interval: int
    """Seconds between polls."""
    polled_at: datetime | None = None
    state: DeviceState = "pending"
    user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that has logged in; ``digest`` is that of its cookie."""

    digest: bytes
    user_id: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Failed attempts in a row under one key."""

    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """Who did what to what, when, from where, with what outcome."""

    id: str
    at: datetime
    action: str
    """Such as ``token.create``: a noun and a verb."""
    outcome: Outcome
    actor: str
    """The user's name or id; empty when nobody is known yet."""
    target: str
    address: str
    detail: str


class AccountStore(Protocol):
    """Each method is one transaction."""

    async def add_account(self, account: Account, audit: AuditEntry) -> bool:
        """Store an account; return False if the name is taken."""
        ...

    async def account(self, *, name: str = "", user_id: str = "") -> Account | None:
        """Return the account of that name or id."""
        ...

    async def accounts(self) -> list[Account]:
        """Return all accounts by name."""
        ...

    async def set_password(
        self, user_id: str, password_hash: str, *, admin: bool | None = None, audit: AuditEntry
    ) -> None:
        """Set the password and end the user's sessions; with ``admin``, also whether it is an admin."""
        ...

    async def disable_account(self, user_id: str, at: datetime, audit: AuditEntry) -> bool:
        """Disable an account, revoke its tokens, end its sessions; return whether this changed anything."""
        ...

    async def role(self, project: str, user_id: str) -> Role | None:
        """Return the user's role in the project."""
        ...

    async def memberships(self, *, user_id: str = "", project: str = "") -> list[Membership]:
        """Return those of a user, of a project, or all; by project, then user."""
        ...

    async def set_member(
        self, project: str, user_id: str, role: Role, at: datetime, audit: AuditEntry
    ) -> bool:
        """Give a role; return False if the project would be left without an owner, or does not exist."""
        ...

    async def remove_member(self, project: str, user_id: str, audit: AuditEntry) -> bool:
        """Take the role away; return False if there was none, or it is the last owner's."""
        ...

    async def delete_project(self, project: str, audit: AuditEntry) -> bool:
        """Free the name and forget its members; return whether it was owned."""
        ...

    async def add_device_grant(self, grant: DeviceGrant, limit: int) -> bool:
        """Store it, dropping expired ones; return False if the user code is taken or ``limit`` are open."""
        ...

    async def device_grant(self, user_code: str) -> DeviceGrant | None:
        """Return the grant of that user code."""
        ...

    async def poll_device(self, digest: bytes, at: datetime) -> DeviceGrant | None:
        """Return the grant as it was before this poll, and note the poll."""
        ...

    async def slow_device(self, digest: bytes, interval: int) -> None:
        """Let the device poll less often."""
        ...

    async def decide_device(
        self, user_code: str, user_id: str, *, approved: bool, at: datetime, audit: AuditEntry
    ) -> bool:
        """Approve or deny; return False if it was decided before, expired, or never was."""
        ...

    async def add_session(self, session: Session, audit: AuditEntry) -> None:
        """Store a session, dropping expired ones."""
        ...

    async def session(self, digest: bytes) -> tuple[Session, Account] | None:
        """Return the session and its account."""
        ...

    async def end_session(self, digest: bytes, audit: AuditEntry) -> None:
        """Forget a session."""
        ...

    async def failures(self, key: str) -> Failures | None:
        """Return the failed attempts under a key."""
        ...

    async def count_failure(self, key: str, at: datetime, forget_before: datetime) -> None:
        """Count a failed attempt; those under any key whose last one was before that time are forgotten."""
        ...

    async def forgive_failure(self, key: str, *, everything: bool) -> None:
        """Take one failed attempt under a key back, or all of them."""
        ...

    async def append_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Write entries that belong to no change."""
        ...

    async def prune_audit(self, before: datetime, limit: int) -> int:
        """Look at so many of the earliest entries and delete those from before that time; return how many."""
        ...

    async def audit(self, *, before: str = "", limit: int = 100) -> list[AuditEntry]:
        """Return entries, the newest first, from the one before the id ``before``."""
        ...
