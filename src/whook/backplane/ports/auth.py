"""Auth as services see it, and the store behind it.

Conductor and relay use Auth; the auth module alone uses AuthStore, which holds hashes and private keys and
must never be handed to anything else. The store keeps what it is told: all rules are in the auth module.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from whook.backplane.ports.accounts import AccountStore, AuditEntry
from whook.backplane.ports.projects import Project

SCOPES = frozenset({"connect", "events:read", "events:replay", "projects:write", "admin"})
"""What a token may be allowed to do; ``admin`` allows everything, on every project."""

CALLER: ContextVar[str] = ContextVar("whook_caller", default="")
"""Network address of whoever asks, for the audit trail: set by what serves an API, read by auth."""

DenialReason = Literal["unknown", "expired", "revoked", "forbidden", "hidden"]

ProjectScope = Literal["events:read", "events:replay", "projects:write"]
"""What may be done in a project beyond opening tunnels: members read, developers and owners replay, owners
change its policy."""


class AuthDenied(Exception):
    """The request is refused. ``detail`` is one sentence for the person who asked; it gives nothing away.

    ``unknown``, ``expired`` and ``revoked`` are about the token (401); ``forbidden`` is about what it was to
    be used for (403); ``hidden`` is a project that is not to be told from one that does not exist (404).
    """

    def __init__(self, reason: DenialReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks, by which token. ``expires_at`` is the token's, in UTC; None means never."""

    user_id: str
    user: str
    token_id: str
    scopes: frozenset[str]
    expires_at: datetime | None = None
    projects: frozenset[str] = frozenset()
    """The only projects that the token is good for, by name; empty means every one of its user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelToken:
    """Opens one tunnel for one project on one relay. ``expires_at`` is in UTC, and the tunnel's end too."""

    token: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"<TunnelToken until {self.expires_at.isoformat()}>"


class Auth(Protocol):
    """What the auth service answers."""

    async def authenticate(self, token: str) -> Principal:
        """Return who holds the access token. Raises AuthDenied (unknown, expired or revoked)."""
        ...

    async def authorize_tunnel(self, principal: Principal, project: str, *, create: bool) -> str:
        """Return the project's id if the principal may open a tunnel for the project of that name.

        A name that nobody owns becomes the principal's if ``create``; otherwise it is refused. The id is new
        with every claim of a name, so what is stored under another belongs to somebody else. Raises
        AuthDenied (forbidden), and ValueError for a name that no project may have.
        """
        ...

    async def authorize_project(self, principal: Principal, project: str | None, scope: ProjectScope) -> str:
        """Return the project's id if the principal may do in it, by its name, what the scope is for.

        None asks about the token alone, and the id is empty. Raises AuthDenied: forbidden for want of the
        scope or of the role, hidden for a project that is none of the principal's, or that the token is not
        for.
        """
        ...

    async def authorize_admin(
        self, principal: Principal, action: str, target: str = "", *, change: bool = False
    ) -> None:
        """Return if the principal may operate the service: a token of the scope ``admin``, held by an admin.

        ``action`` and ``target`` are for the audit trail, which has every refusal and, with ``change``, what
        was allowed as well. Raises AuthDenied (forbidden).
        """
        ...

    async def projects_of(self, principal: Principal) -> dict[str, str] | None:
        """Return the ids, by name, of the projects that the principal may see; None means all of them."""
        ...

    async def mint_tunnel_token(self, principal: Principal, project: Project, relay_id: str) -> TunnelToken:
        """Return a token for one tunnel, good for no longer than the access token.

        The rights are checked again, and that the project is the one that was claimed under its name. Raises
        AuthDenied (forbidden or expired).
        """
        ...

    async def jwks(self) -> dict[str, Any]:
        """Return the public keys that verify tunnel tokens (RFC 7517 section 5)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An account."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredToken:
    """An access token as it is stored: never the token itself. Times are in UTC."""

    id: str
    user_id: str
    digest: bytes
    """SHA-256 of the token."""
    name: str
    """What its owner calls it."""
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    projects: frozenset[str] = frozenset()
    """The only projects that it is good for; empty means every one of its user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A signing key for tunnel tokens. Times are in UTC."""

    kid: str
    private_pem: bytes
    signs_from: datetime
    """It is published from the start and signs from here on, when every relay has had time to learn it."""
    retires_at: datetime | None = None
    """No longer published from here on; None means in use."""

    def __repr__(self) -> str:
        return f"<StoredKey {self.kid}>"


class AuthStore(AccountStore, Protocol):
    """Users, tokens, owners and signing keys. Each method is one transaction.

    An ``audit`` entry is written in that transaction, and only if the method changed something.
    """

    async def ensure_user(self, user: User) -> User:
        """Return the user of that name; store ``user`` if there is none."""
        ...

    async def add_token(self, token: StoredToken, audit: AuditEntry | None = None) -> None:
        """Store a token."""
        ...

    async def redeem_device(self, digest: bytes, token: StoredToken, audit: AuditEntry) -> bool:
        """Use up an approved device login and store its token; return False if it is not to be had."""
        ...

    async def add_bootstrap_token(self, token: StoredToken) -> bool:
        """Store the token if its user was never given a bootstrap token; return whether it was stored."""
        ...

    async def find_token(self, digest: bytes) -> tuple[StoredToken, User] | None:
        """Return the token of that digest and its user, also if expired or revoked."""
        ...

    async def tokens(self, user_id: str) -> list[StoredToken]:
        """Return the user's tokens, the oldest first."""
        ...

    async def touch_token(self, token_id: str, used_at: datetime) -> None:
        """Note when the token was used last."""
        ...

    async def revoke_token(
        self, token_id: str, revoked_at: datetime, audit: AuditEntry | None = None
    ) -> bool:
        """Mark the token revoked; return False if there is none, or it was revoked before."""
        ...

    async def owner(self, project: str) -> str | None:
        """Return the user id of the owner of that project name."""
        ...

    async def project_id(self, project: str) -> str | None:
        """Return the id that was stored when the name was claimed."""
        ...

    async def claim_project(
        self,
        project: str,
        user_id: str,
        claimed_at: datetime,
        audit: AuditEntry | None = None,
        *,
        project_id: str,
    ) -> str:
        """Make the user the owner unless the name has one; return the first owner's user id.

        ``project_id`` is stored with the claim, and goes with it.
        """
        ...

    async def signing_keys(self) -> list[StoredKey]:
        """Return all signing keys, the earliest ``signs_from`` first."""
        ...

    async def add_signing_key(
        self,
        key: StoredKey,
        *,
        retire_others_at: datetime | None = None,
        after: str = "",
        audit: AuditEntry | None = None,
    ) -> bool:
        """Store a key, and with ``retire_others_at`` let every other one that is in use retire then.

        With ``after``, only if the key of that id has no end yet: of several that want to follow it one does,
        and the others get False.
        """
        ...

    async def delete_retired_keys(self, before: datetime) -> None:
        """Delete keys that retired before that time."""
        ...
