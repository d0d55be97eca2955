"""The auth service: what every decision about tokens and projects comes down to.

Opened by the composition root over a store and a bus, seen by the conductor as the Auth port. The rules are
here, the rows in the store. It must never log, store or return a token, except once to whoever made it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from whook.backplane.ports import (
    SCOPES,
    Account,
    AuditEntry,
    AuthDenied,
    AuthStore,
    Bus,
    Kick,
    Principal,
    Project,
    ProjectScope,
    StoredToken,
    TunnelToken,
    Unavailable,
    User,
)
from whook.chassis.ids import new_id
from whook.chassis.names import check_project_name
from whook.chassis.tunnel_token import TunnelClaims, sign
from whook_auth.access_token import digest, is_well_formed, new_access_token
from whook_auth.admins import require_admin
from whook_auth.audit import AuditTrail
from whook_auth.cache import PrincipalCache
from whook_auth.keys import KeyRing
from whook_auth.kicks import Kicks

ADMIN = "admin"
"""Name of the user that is there from the start."""

TUNNEL_LIFETIME = timedelta(hours=1)
"""A tunnel ends with its token, so this is how often a client asks again: seldom enough that 20,000 tunnels
make six requests a second, often enough that a lost kick does no harm for long."""

USE_NOTED = timedelta(minutes=1)
"""How exactly the last use of a token is known: one write a minute for each token that is in use."""

LOCAL_SCOPES = frozenset({"connect", "projects:write"})
"""What the tunnel of `whook dev` needs."""
CLIENT_SCOPES = LOCAL_SCOPES | {"events:read", "events:replay"}
"""What the commands of a client need beside it."""

_log = structlog.get_logger("whook.auth")


def _utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def open_auth(
    store: AuthStore,
    bus: Bus,
    *,
    tunnel_lifetime: timedelta = TUNNEL_LIFETIME,
    now: Callable[[], datetime] = _utc_now,
) -> AsyncGenerator[AuthService, None]:
    """Open auth over its store: the first user and the first signing key are made if they are missing.

    ``now`` tells the time in UTC. Raises Unavailable if the store does not answer.
    """
    keys = KeyRing(store, lifetime=tunnel_lifetime, now=now)
    await keys.open()
    admin = await store.ensure_user(User(id=new_id("usr"), name=ADMIN, created_at=now()))
    yield AuthService(store, bus, keys, admin, tunnel_lifetime=tunnel_lifetime, now=now)


class AuthService:
    """Auth for the services, and what the composition root and later the auth API need beyond it."""

    def __init__(
        self,
        store: AuthStore,
        bus: Bus,
        keys: KeyRing,
        admin: User,
        *,
        tunnel_lifetime: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._keys = keys
        self._tunnel_lifetime = tunnel_lifetime
        self._now = now
        self._cache = PrincipalCache()
        self.trail = AuditTrail(store, now)
        """The audit trail."""
        self.kicks = Kicks(bus, lifetime=tunnel_lifetime, now=now)
        """What relays are told to close; the server runs it."""
        self._local: dict[bytes, Principal] = {}
        self.admin = admin
        """The user that is there from the start."""

    # The port

    async def authenticate(self, token: str) -> Principal:
        """Return who holds the token. Raises AuthDenied (unknown, expired or revoked) and Unavailable."""
        try:
            principal = await self._authenticate(token)
        except AuthDenied as denied:
            await self.trail.refused("token.use", detail=f"{denied.reason}: {denied.detail}")  # noqa: ASYNC120
            raise
        self.trail.count("token.use", "granted")
        return principal

    async def _authenticate(self, token: str) -> Principal:
        if not is_well_formed(token):
            raise AuthDenied("unknown", "this is not a complete whook token: copy it again, whk_ included")
        key = digest(token)
        principal = self._local.get(key) or self._cache.get(key) or await self._look_up(key)
        if principal.expires_at is not None and principal.expires_at <= self._now():
            raise AuthDenied("expired", f"the token expired at {principal.expires_at:%Y-%m-%d %H:%M} UTC")
        return principal

    async def authorize_tunnel(self, principal: Principal, project: str, *, create: bool) -> str:
        """Return the project's id if the principal may; claim a free name if ``create`` is set."""
        async with self.trail.watching("tunnel.open", principal.user, project):
            _require(principal, "connect")
            _require_listed(principal, project)
            owner = await self._store.owner(project)
            if owner is None:
                # Only here: a name that was given away stays good when another is reserved later.
                check_project_name(project)
                if not create:
                    raise AuthDenied("forbidden", f"there is no project {project}")
                _require(principal, "projects:write")
                claim = self.trail.entry("project.claim", actor=principal.user, target=project)
                owner = await self._store.claim_project(
                    project, principal.user_id, self._now(), claim, project_id=new_id("prj")
                )
            await self._require_opening(principal, project, owner)
            project_id = await self._store.project_id(project)
            if project_id is None:
                raise AuthDenied("forbidden", f"project {project} has just been deleted")
            return project_id

    async def authorize_project(self, principal: Principal, project: str | None, scope: ProjectScope) -> str:
        """Return the project's id if the principal may do this in it; without a project, an empty one."""
        async with self.trail.watching(scope, principal.user, project or ""):
            _require(principal, scope)
            if project is None:
                return ""
            # One answer for what does not exist, what is another's, and what the token is not for.
            unseen = AuthDenied("hidden", "You have no project of this name.")
            project_id = await self._store.project_id(project)
            if project_id is None or (principal.projects and project not in principal.projects):
                raise unseen
            if "admin" not in principal.scopes and await self._store.owner(project) != principal.user_id:
                role = await self._store.role(project, principal.user_id)
                if role is None:
                    raise unseen
                if role == "viewer" and scope != "events:read":
                    raise AuthDenied("forbidden", f"you are a viewer of project {project}: viewers only look")
                if role != "owner" and scope == "projects:write":
                    detail = f"you are a {role} of project {project}: only owners change it"
                    raise AuthDenied("forbidden", detail)
            if await self._store.project_id(project) != project_id:  # it changed hands meanwhile
                raise unseen
            return project_id

    async def authorize_admin(
        self, principal: Principal, action: str, target: str = "", *, change: bool = False
    ) -> None:
        """Return if the principal may operate the service; audited when refused, or when it is a change."""
        await require_admin(self._store, self.trail, principal, action, target)
        if change:
            await self._store.append_audit([self.trail.entry(action, actor=principal.user, target=target)])

    async def projects_of(self, principal: Principal) -> dict[str, str] | None:
        """Return the projects that the principal is a member of, as far as its token goes."""
        if "admin" in principal.scopes and not principal.projects:
            return None
        return {
            one.project: one.project_id
            for one in await self._store.memberships(user_id=principal.user_id)
            if not principal.projects or one.project in principal.projects
        }

    async def mint_tunnel_token(self, principal: Principal, project: Project, relay_id: str) -> TunnelToken:
        """Return a token for one tunnel, which never outlives the access token it was asked with."""
        async with self.trail.watching("tunnel.token", principal.user, project.name):
            _require(principal, "connect")
            _require_listed(principal, project.name)
            owner = await self._store.owner(project.name)
            if owner is None:
                raise AuthDenied("forbidden", f"there is no project {project.name}")
            await self._require_opening(principal, project.name, owner)
            if project.id != await self._store.project_id(project.name):
                # The conductor's row is of an earlier claim of the name, or this one was given up meanwhile.
                raise AuthDenied("forbidden", f"project {project.name} has changed hands: ask again")
        lifetime = self._tunnel_lifetime
        if principal.expires_at is not None:
            lifetime = min(lifetime, principal.expires_at - self._now())
        if lifetime < timedelta(seconds=1):
            raise AuthDenied("expired", "the token has expired")
        claims = TunnelClaims.issue(
            user_id=principal.user_id,
            project_id=project.id,
            project=project.name,
            relay_id=relay_id,
            token_id=principal.token_id,
            lifetime=int(lifetime.total_seconds()),
        )
        return TunnelToken(
            token=sign(await self._keys.signing(), claims),
            expires_at=datetime.fromtimestamp(claims.expires_at, UTC),
        )

    async def jwks(self) -> dict[str, Any]:
        """Return the public keys that verify tunnel tokens."""
        return await self._keys.jwks()

    # Tokens

    async def bootstrap_token(self) -> str | None:
        """Return a token that may do everything, the first time that it is asked for; None ever after.

        The caller shows it to whoever started the server. It is never shown again.
        """
        token, stored = self._new_token(self.admin.id, "bootstrap", {"admin"}, None)
        return token if await self._store.add_bootstrap_token(stored) else None

    async def create_token(
        self,
        user_id: str,
        name: str,
        scopes: Iterable[str],
        *,
        lifetime: timedelta | None = None,
        projects: Iterable[str] = (),
        actor: str = "",
    ) -> tuple[str, StoredToken]:
        """Make a token; return it, which is possible only now, and its record.

        ``lifetime`` None means until it is revoked; with ``projects`` it is good for those only. Raises
        ValueError for an unknown scope, for none at all, for a lifetime that is over already, and for a
        token of the scope ``admin`` that is to be good for some projects only.
        """
        token, stored = self._new_token(user_id, name, scopes, lifetime, projects)
        await self._store.add_token(stored, self.token_entry(stored, actor or user_id))
        return token, stored

    def token_entry(self, stored: StoredToken, actor: str) -> AuditEntry:
        """Return the audit entry of a new token."""
        return self.trail.entry(
            "token.create", actor=actor, target=stored.id, detail=" ".join(sorted(stored.scopes))
        )

    async def redeem_device(
        self, device_digest: bytes, account: Account, name: str, scopes: Iterable[str]
    ) -> tuple[str, StoredToken] | None:
        """Make the token that an approved device login is for; None if it was made before."""
        token, stored = self._new_token(account.id, name, scopes, None)
        entry = self.token_entry(stored, account.name)
        return (token, stored) if await self._store.redeem_device(device_digest, stored, entry) else None

    def mint_local_token(self, scopes: Iterable[str] = LOCAL_SCOPES) -> str:
        """Return a token of the first user that is stored nowhere: it is good while this service is open.

        For the tunnel that `whook dev` opens to the server in its own process.
        """
        token, stored = self._new_token(self.admin.id, "local", scopes, None)
        self._local[stored.digest] = _principal(stored, self.admin)
        return token

    async def tokens(self, user_id: str) -> list[StoredToken]:
        """Return the records of a user's tokens, the oldest first."""
        return await self._store.tokens(user_id)

    async def revoke_token(self, token_id: str, *, actor: str = "") -> bool:
        """Make a token worthless and close its tunnels; return False if it was so before, or is unknown.

        Safe to repeat: the tunnels are told every time, since an earlier call may have failed to.
        """
        entry = self.trail.entry("token.revoke", actor=actor, target=token_id)
        revoked = await self._store.revoke_token(token_id, self._now(), entry)
        self._cache.forget(token_id)
        await self.kick(Kick(token_id=token_id, reason="the access token was revoked"))
        return revoked

    async def kick(self, kick: Kick) -> None:
        """Have every relay close the tunnels that are meant. Raises Unavailable as `Kicks.send`."""
        if kick.user_id:
            self._cache.forget_user(kick.user_id)
        await self.kicks.send(kick)

    async def rotate_signing_key(self, *, actor: str = "") -> None:
        """Let a new key sign tunnel tokens; whoever follows `jwks` notices nothing."""
        await self._keys.rotate(self.trail.entry("key.rotate", actor=actor))

    async def rotate_old_key(self, age: timedelta) -> bool:
        """Do as `rotate_signing_key` if the present one began to sign so long ago; return whether it did."""
        return await self._keys.rotate_if_older(age, self.trail.entry("key.rotate", detail="by its age"))

    def _new_token(
        self,
        user_id: str,
        name: str,
        scopes: Iterable[str],
        lifetime: timedelta | None,
        projects: Iterable[str] = (),
    ) -> tuple[str, StoredToken]:
        wanted = frozenset(scopes)
        if not wanted or wanted - SCOPES:
            known = ", ".join(sorted(SCOPES))
            raise ValueError(
                f"a token needs scopes out of {known}; not {', '.join(sorted(wanted)) or 'none'}"
            )
        if lifetime is not None and lifetime <= timedelta(0):
            raise ValueError("a token must expire in the future")
        only = frozenset(projects)
        if only and "admin" in wanted:
            raise ValueError("a token of the scope admin is good for every project: leave the projects out")
        token = new_access_token()
        now = self._now()
        stored = StoredToken(
            id=new_id("tok"),
            user_id=user_id,
            digest=digest(token),
            name=name,
            scopes=wanted,
            created_at=now,
            expires_at=None if lifetime is None else now + lifetime,
            projects=only,
        )
        return token, stored

    async def _look_up(self, key: bytes) -> Principal:
        revocations = self._cache.revocations
        found = await self._store.find_token(key)
        if found is None:
            raise AuthDenied("unknown", "this server does not know the token")
        stored, user = found
        if stored.revoked_at is not None:
            raise AuthDenied("revoked", "the token was revoked")
        principal = _principal(stored, user)
        self._cache.put(key, principal, revocations=revocations)
        await self._note_use(stored)
        return principal

    async def _require_opening(self, principal: Principal, project: str, owner: str) -> None:
        if owner == principal.user_id or "admin" in principal.scopes:
            return
        role = await self._store.role(project, principal.user_id)
        if role is None:
            raise AuthDenied("forbidden", f"project {project} belongs to somebody else")
        if role == "viewer":
            raise AuthDenied("forbidden", f"you are a viewer of project {project}: viewers open no tunnels")

    async def _note_use(self, stored: StoredToken) -> None:
        now = self._now()
        if stored.last_used_at is not None and now - stored.last_used_at < USE_NOTED:
            return
        try:
            await self._store.touch_token(stored.id, now)
        except Unavailable as error:
            # Worth a line in the log, not a refusal: the token is good.
            _log.warning("cannot note the use of a token", token=stored.id, error=str(error))


def _principal(stored: StoredToken, user: User) -> Principal:
    return Principal(
        user_id=user.id,
        user=user.name,
        token_id=stored.id,
        scopes=stored.scopes,
        expires_at=stored.expires_at,
        projects=stored.projects,
    )


def _require(principal: Principal, scope: str) -> None:
    if scope not in principal.scopes and "admin" not in principal.scopes:
        raise AuthDenied("forbidden", f"the token may not do this: it lacks the scope {scope}")


def _require_listed(principal: Principal, project: str) -> None:
    if principal.projects and project not in principal.projects:
        raise AuthDenied("forbidden", f"the token is not for project {project}")
