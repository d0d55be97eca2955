"""Projects as their people see them: members, roles, and giving a name up.

Called by the API. Owners and admins change things, every member may look. Whoever loses a right loses the
tunnels that it opened: relays are told over the bus.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from whook.backplane.ports import (
    TOPIC_PROJECTS,
    Account,
    AuthDenied,
    AuthStore,
    Bus,
    Kick,
    Membership,
    Principal,
    ProjectGone,
    Role,
    encode_event,
)
from whook.chassis.ids import new_id
from whook.chassis.names import check_project_name
from whook_auth.service import AuthService


class LastOwnerError(Exception):
    """A project must keep an owner."""


class Members:
    """The projects of one auth service."""

    def __init__(self, store: AuthStore, auth: AuthService, bus: Bus, now: Callable[[], datetime]) -> None:
        """``now`` tells the time in UTC."""
        self._store = store
        self._auth = auth
        self._bus = bus
        self._now = now

    async def projects(self, principal: Principal) -> list[Membership]:
        """Return the projects that the principal may see, with the roles in them, by project."""
        visible = await self._auth.projects_of(principal)
        if visible is None:
            every = await self._store.memberships()
            mine = {one.project for one in every if one.user_id == principal.user_id}
            # An admin sees every project once: its own by its own role, the others by an owner's.
            chosen: dict[str, Membership] = {}
            for one in every:
                if one.user_id == principal.user_id or (one.project not in mine and one.role == "owner"):
                    chosen.setdefault(one.project, one)
            return list(chosen.values())
        found = await self._store.memberships(user_id=principal.user_id)
        return [one for one in found if one.project in visible]

    async def members(self, principal: Principal, project: str) -> list[Membership]:
        """Return the members of a project. Raises AuthDenied."""
        await self._require_member(principal, project, "project.members")
        return await self._store.memberships(project=project)

    async def claim(self, principal: Principal, project: str) -> bool:
        """Own a free name; return False if somebody has it. Raises AuthDenied, and ValueError for a bad name.

        It is audited as refused if somebody else has it.
        """
        check_project_name(project)
        async with self._auth.trail.watching("project.claim", principal.user, project):
            _require_scope(principal, "projects:write")
            _require_listed(principal, project)
        entry = self._auth.trail.entry("project.claim", actor=principal.user, target=project)
        owner = await self._store.claim_project(
            project, principal.user_id, self._now(), entry, project_id=new_id("prj")
        )
        if owner == principal.user_id:
            return True
        await self._auth.trail.refused("project.claim", actor=principal.user, target=project, detail="taken")
        return False

    async def set_role(self, principal: Principal, project: str, user: Account, role: Role) -> None:
        """Make somebody a member. Raises AuthDenied and LastOwnerError.

        One who becomes a viewer loses its tunnels.
        """
        await self.require_owner(principal, project, "member.set")
        entry = self._auth.trail.entry(
            "member.set", actor=principal.user, target=project, detail=f"{user.name}: {role}"
        )
        if not await self._store.set_member(project, user.id, role, self._now(), entry):
            raise LastOwnerError
        if role == "viewer":
            await self._kick(project, user, "you are a viewer of the project now")

    async def remove(self, principal: Principal, project: str, user: Account) -> bool:
        """Remove a member; return False if it was none. Raises AuthDenied and LastOwnerError.

        Everybody may remove themselves.
        """
        role = await self._store.role(project, user.id)
        if user.id != principal.user_id or role is None:
            await self.require_owner(principal, project, "member.remove")
        else:
            async with self._auth.trail.watching("member.remove", principal.user, project):
                _require_scope(principal, "projects:write")
                _require_listed(principal, project)
        if role is not None:
            entry = self._auth.trail.entry(
                "member.remove", actor=principal.user, target=project, detail=user.name
            )
            if not await self._store.remove_member(project, user.id, entry):
                raise LastOwnerError
        # Also if it was removed before: the earlier call may have failed to tell the relays.
        await self._kick(project, user, "you are no longer a member of the project")
        return role is not None

    async def delete(self, principal: Principal, project: str) -> None:
        """Give a name up: its tunnels close; who claims it next gets a new project. Raises AuthDenied."""
        await self.require_owner(principal, project, "project.delete")
        entry = self._auth.trail.entry("project.delete", actor=principal.user, target=project)
        at = self._now()
        project_id = await self._store.project_id(project)
        await self._store.delete_project(project, entry)
        await self._bus.publish(TOPIC_PROJECTS, encode_event(ProjectGone(project, at)))
        # By its id, so that whoever claims the name next is not meant.
        await self._auth.kick(
            Kick(project=project, project_id=project_id or "", reason="the project was deleted")
        )

    async def _kick(self, project: str, user: Account, reason: str) -> None:
        await self._auth.kick(Kick(project=project, user_id=user.id, reason=reason))

    async def _require_member(self, principal: Principal, project: str, action: str) -> Role:
        async with self._auth.trail.watching(action, principal.user, project):
            _require_listed(principal, project)
            if "admin" in principal.scopes and await self._store.owner(project) is not None:
                return "owner"
            role = await self._store.role(project, principal.user_id)
            if role is None:
                # The same for one that exists and one that does not.
                raise AuthDenied("forbidden", f"you have no project {project}")
            return role

    async def require_owner(self, principal: Principal, project: str, action: str) -> None:
        """Return if the principal may change the project; ``action`` is for the audit. Raises AuthDenied."""
        role = await self._require_member(principal, project, action)
        async with self._auth.trail.watching(action, principal.user, project):
            _require_scope(principal, "projects:write")
            if role != "owner":
                raise AuthDenied("forbidden", f"only owners of project {project} may do this")


def _require_scope(principal: Principal, scope: str) -> None:
    if scope not in principal.scopes and "admin" not in principal.scopes:
        raise AuthDenied("forbidden", f"the token may not do this: it lacks the scope {scope}")


def _require_listed(principal: Principal, project: str) -> None:
    if principal.projects and project not in principal.projects:
        raise AuthDenied("forbidden", f"the token is not for project {project}")
