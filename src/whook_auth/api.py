"""The auth API as HTTP: tokens, accounts, projects, the audit trail, signing keys.

Built by the server of this package, with the pages and OAuth beside it. Shape only: what is decided is in the
parts. Every error is a problem (RFC 9457).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Response

from whook.backplane.ports import Account, Principal, StoredToken
from whook.chassis.api import new_api, problem_responses
from whook.chassis.problem import ProblemError
from whook_auth import models
from whook_auth.access import Admin, Caller, Service, refusals
from whook_auth.accounts import LoginFailedError
from whook_auth.oauth import build_oauth
from whook_auth.pages import build_pages
from whook_auth.parts import Parts

KEYS_MAX_AGE = 60
"""Seconds for which the published keys may be cached: new ones are published ten minutes before they sign."""

_NAME = r"^[A-Za-z0-9._-]+$"
ProjectPath = Annotated[str, Path(max_length=63, pattern=_NAME)]
UserPath = Annotated[str, Path(max_length=64, pattern=_NAME)]
TokenPath = Annotated[str, Path(max_length=64, pattern=_NAME)]

tokens = APIRouter(prefix="/v1", tags=["tokens"])
users = APIRouter(prefix="/v1", tags=["users"])
projects = APIRouter(prefix="/v1", tags=["projects"])
operations = APIRouter(tags=["operation"])


def build_api(parts: Parts) -> FastAPI:
    """Return the application."""
    app = new_api("whook auth")
    app.state.parts = parts
    for router in (tokens, users, projects, operations, build_oauth(), build_pages()):
        app.include_router(router)
    return app


# Tokens


@tokens.get("/whoami", responses=problem_responses(401, 503))
async def whoami(principal: Caller) -> models.WhoAmI:
    """Tell whose token this is."""
    return models.WhoAmI(
        user=principal.user,
        user_id=principal.user_id,
        token_id=principal.token_id,
        scopes=sorted(principal.scopes),
        projects=sorted(principal.projects),
        expires_at=principal.expires_at,
    )


@tokens.get("/tokens", responses=problem_responses(401, 503))
async def list_tokens(parts: Service, principal: Caller) -> models.TokenList:
    """List your tokens, those that were revoked included."""
    with refusals():
        found = await parts.auth.tokens(principal.user_id)
    return models.TokenList(tokens=[models.TokenAnswer(**_token(one, principal)) for one in found])


@tokens.post("/tokens", status_code=201, responses=problem_responses(400, 401, 403, 422, 503))
async def create_token(
    parts: Service, principal: Caller, wanted: models.TokenWanted, response: Response
) -> models.TokenMade:
    """Make a token. It can do no more, and lives no longer, than the one that asks."""
    lifetime = None if wanted.expires_in is None else timedelta(seconds=wanted.expires_in)
    lacking = _lacking(principal, wanted)
    if lacking:
        await parts.auth.trail.refused("token.create", actor=principal.user, detail=lacking)
        raise ProblemError(403, "forbidden", "Forbidden", f"{lacking}.")
    if principal.expires_at is not None:
        left = principal.expires_at - parts.now()
        lifetime = left if lifetime is None else min(left, lifetime)
    with refusals():
        token, stored = await parts.auth.create_token(
            principal.user_id,
            wanted.name,
            wanted.scopes,
            lifetime=lifetime,
            projects=wanted.projects or principal.projects,
            actor=principal.user,
        )
    response.headers["cache-control"] = "no-store"
    return models.TokenMade(token=token, **_token(stored, principal))


@tokens.delete("/tokens/current", status_code=204, responses=problem_responses(401, 503))
async def revoke_current(parts: Service, principal: Caller) -> None:
    """Revoke the token of this request, and close its tunnels."""
    with refusals():
        await parts.auth.revoke_token(principal.token_id, actor=principal.user)


@tokens.delete("/tokens/{token_id}", status_code=204, responses=problem_responses(401, 404, 422, 503))
async def revoke_token(parts: Service, principal: Caller, token_id: TokenPath) -> None:
    """Revoke one of your tokens, and close its tunnels. Revoking it again is no error."""
    with refusals():
        mine = {one.id: one for one in await parts.auth.tokens(principal.user_id)}
        stronger = token_id in mine and _exceeds(principal, mine[token_id])
        if token_id not in mine or stronger:
            await parts.auth.trail.refused(
                "token.revoke", actor=principal.user, target=token_id, detail="not yours or more powerful"
            )
            raise ProblemError(404, "unknown-token", "Unknown token", "You have no token of this id.")
        await parts.auth.revoke_token(token_id, actor=principal.user)


def _lacking(principal: Principal, wanted: models.TokenWanted) -> str:
    """Return why the token cannot give these rights; empty if it can."""
    more = set(wanted.scopes) - principal.scopes
    if more and "admin" not in principal.scopes:
        return f"the token lacks the scope {', '.join(sorted(more))}"
    if principal.projects and not set(wanted.projects) <= principal.projects:
        return "the token is not for all of these projects"
    return ""


def _exceeds(principal: Principal, other: StoredToken) -> bool:
    """Tell whether a restricted token would touch one that can do more than itself."""
    if not principal.projects:
        return False
    return not other.projects or not other.projects <= principal.projects


def _token(stored: StoredToken, principal: Principal) -> dict[str, Any]:
    return {
        "id": stored.id,
        "name": stored.name,
        "scopes": sorted(stored.scopes),
        "projects": sorted(stored.projects),
        "created_at": stored.created_at,
        "expires_at": stored.expires_at,
        "revoked_at": stored.revoked_at,
        "last_used_at": stored.last_used_at,
        "current": stored.id == principal.token_id,
    }


# Users


@users.get("/users", responses=problem_responses(401, 403, 503))
async def list_users(parts: Service, _: Admin) -> models.UserList:
    """List the accounts."""
    with refusals():
        return models.UserList(users=[_user(one) for one in await parts.accounts.list()])


@users.post("/users", status_code=201, responses=problem_responses(400, 401, 403, 409, 422, 503))
async def create_user(parts: Service, admin: Admin, wanted: models.UserWanted) -> models.UserAnswer:
    """Make an account."""
    with refusals():
        made = await parts.accounts.create(wanted.name, wanted.password, admin=wanted.admin, actor=admin.user)
    if made is None:
        raise ProblemError(409, "name-taken", "Name taken", "There is an account of this name.")
    return _user(made)


@users.delete("/users/{name}", status_code=204, responses=problem_responses(401, 403, 404, 409, 422, 503))
async def disable_user(parts: Service, admin: Admin, name: UserPath) -> None:
    """Disable an account: its tokens and sessions end, its tunnels close, its projects stay."""
    with refusals():
        found = await _find(parts, name)
        if found.id == admin.user_id:
            raise ProblemError(409, "own-account", "Own account", "Nobody disables their own account.")
        await parts.accounts.disable(found, actor=admin.user)


@users.put("/users/me/password", status_code=204, responses=problem_responses(400, 401, 403, 422, 429, 503))
async def change_password(parts: Service, principal: Caller, change: models.PasswordChange) -> None:
    """Change your password. It ends your browser sessions, not your tokens."""
    with refusals():
        try:
            account = await parts.accounts.check_password(principal.user, change.current)
        except LoginFailedError:
            raise ProblemError(403, "forbidden", "Forbidden", "The current password is wrong.") from None
        await parts.accounts.set_password(account, change.new, actor=principal.user)


async def _find(parts: Parts, name: str) -> Account:
    found = await parts.accounts.find(name)
    if found is None:
        raise ProblemError(404, "unknown-user", "Unknown user", "There is no account of this name.")
    return found


def _user(account: Account) -> models.UserAnswer:
    return models.UserAnswer(
        id=account.id,
        name=account.name,
        admin=account.admin,
        created_at=account.created_at,
        disabled_at=account.disabled_at,
    )


# Projects


@projects.get("/projects", responses=problem_responses(401, 503))
async def list_projects(parts: Service, principal: Caller) -> models.OwnProjects:
    """List the projects that you may see, with your role."""
    with refusals():
        found = await parts.members.projects(principal)
    return models.OwnProjects(projects=[models.OwnProject(name=one.project, role=one.role) for one in found])


@projects.post("/projects", status_code=201, responses=problem_responses(400, 401, 403, 409, 422, 503))
async def claim_project(parts: Service, principal: Caller, wanted: models.ProjectWanted) -> models.OwnProject:
    """Own a name that nobody owns."""
    with refusals():
        if not await parts.members.claim(principal, wanted.name):
            raise ProblemError(409, "name-taken", "Name taken", "The name belongs to somebody else.")
    return models.OwnProject(name=wanted.name, role="owner")


@projects.delete("/projects/{project}", status_code=204, responses=problem_responses(401, 403, 422, 503))
async def delete_project(parts: Service, principal: Caller, project: ProjectPath) -> None:
    """Give a name up; its tunnels close."""
    with refusals():
        await parts.members.delete(principal, project)


@projects.get("/projects/{project}/members", responses=problem_responses(401, 403, 422, 503))
async def list_members(parts: Service, principal: Caller, project: ProjectPath) -> models.MemberList:
    """List who belongs to a project."""
    with refusals():
        found = await parts.members.members(principal, project)
    return models.MemberList(members=[models.Member(user=one.user, role=one.role) for one in found])


@projects.put(
    "/projects/{project}/members/{user}",
    responses=problem_responses(400, 401, 403, 404, 409, 422, 503),
)
async def set_member(
    parts: Service, principal: Caller, project: ProjectPath, user: UserPath, wanted: models.RoleWanted
) -> models.Member:
    """Give somebody a role. One who becomes a viewer loses its tunnels."""
    with refusals():
        # First: who may not ask learns nothing about accounts.
        await parts.members.require_owner(principal, project, "member.set")
        await parts.members.set_role(principal, project, await _find(parts, user), wanted.role)
    return models.Member(user=user, role=wanted.role)


@projects.delete(
    "/projects/{project}/members/{user}",
    status_code=204,
    responses=problem_responses(401, 403, 404, 409, 422, 503),
)
async def remove_member(parts: Service, principal: Caller, project: ProjectPath, user: UserPath) -> None:
    """Remove somebody; their tunnels for the project close. Everybody may remove themselves."""
    with refusals():
        if user != principal.user:
            await parts.members.require_owner(principal, project, "member.remove")
        if not await parts.members.remove(principal, project, await _find(parts, user)):
            raise ProblemError(404, "unknown-member", "Unknown member", "The user is no member.")


# Operation


@operations.get("/v1/audit", responses=problem_responses(401, 403, 422, 503))
async def audit(
    parts: Service,
    _: Admin,
    before: Annotated[str, Query(max_length=64, pattern=r"^[A-Za-z0-9_]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> models.AuditPage:
    """Read the audit trail, the newest entries first."""
    with refusals():
        found = await parts.store.audit(before=before, limit=limit)
    return models.AuditPage(
        entries=[models.AuditRecord.model_validate(one, from_attributes=True) for one in found],
        next=found[-1].id if len(found) == limit else None,
    )


@operations.post("/v1/signing-keys", status_code=204, responses=problem_responses(401, 403, 503))
async def rotate_signing_key(parts: Service, admin: Admin) -> None:
    """Let a new key sign tunnel tokens: published now, it signs when every relay has it."""
    with refusals():
        await parts.auth.rotate_signing_key(actor=admin.user)


@operations.get("/.well-known/jwks.json", responses=problem_responses(503))
async def jwks(parts: Service, response: Response) -> dict[str, Any]:
    """Return the public keys that verify tunnel tokens (RFC 7517 section 5)."""
    with refusals():
        keys = await parts.auth.jwks()
    response.headers["cache-control"] = f"public, max-age={KEYS_MAX_AGE}"
    return keys
