"""The control API as HTTP: tunnels, projects and their policies.

Built by the service and served by the chassis. Shape only: what is decided is in `control`. Every error,
those of the framework included, is a problem (RFC 9457) with a stable type.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, Field

from whook.chassis.api import Network, new_api, problem_responses
from whook.chassis.metrics import version
from whook_conductor.bearer import Token
from whook_conductor.control import Control, ProjectView
from whook_conductor.events_models import BacklogAnswer
from whook_conductor.policy_api import PolicyAnswer, PolicyChange


class TunnelRequest(BaseModel):
    """What a client asks for."""

    project: str = Field(description="The project's name: a DNS label.", examples=["shop"])
    instance: str = Field(
        "", max_length=128, description="Names the client process; a reconnect uses the same."
    )
    watch: bool = Field(False, description="See every request and answer none.")


class TunnelGrant(BaseModel):
    """Where to connect, and the token for exactly that."""

    websocket_url: str = Field(description="Open it with the token in the Authorization header.")
    token: str
    project_id: str
    public_url: str = Field(description="Where senders post.")
    expires_at: datetime
    backlog: int = Field(description="Webhooks that wait to be delivered through this tunnel.")


class Tunnel(BaseModel):
    """A tunnel that is open now."""

    id: str
    holder: str


class ProjectAnswer(BaseModel):
    """A project and who is connected to it."""

    id: str
    name: str
    public_url: str
    created_at: datetime
    tunnel: Tunnel | None


class ProjectDetail(ProjectAnswer):
    """A project, its policy and what waits."""

    policy: PolicyAnswer
    backlog: BacklogAnswer | None = Field(description="null while the queue does not answer.")


class ProjectList(BaseModel):
    """Projects by name."""

    projects: list[ProjectAnswer]


class ServerAnswer(BaseModel):
    """What a client should know of this server."""

    version: str
    auth_url: str | None = Field(description="Where people log in; null if this server has no such place.")


def build_api(
    control: Control,
    *,
    auth_url: str | None = None,
    trusted_proxies: Sequence[Network] = (),
    routers: Sequence[APIRouter] = (),
) -> FastAPI:
    """Return the application. ``trusted_proxies`` may say on whose behalf they ask.

    ``routers`` are mounted beside its own operations.
    """
    app = new_api("whook conductor")
    app.state.trusted_proxies = trusted_proxies

    @app.get("/v1/server", tags=["server"])
    async def server() -> ServerAnswer:
        """Tell what this server is, before anybody has logged in."""
        return ServerAnswer(version=version(), auth_url=auth_url)

    @app.post("/v1/tunnels", responses=problem_responses(401, 403, 422, 503), tags=["tunnels"])
    async def open_tunnel(wanted: TunnelRequest, token: Token) -> TunnelGrant:
        """Open a tunnel for a project, which is made on first use if the token may."""
        grant = await control.open_tunnel(token, wanted.project, watch=wanted.watch)
        return TunnelGrant(
            websocket_url=grant.websocket_url,
            token=grant.token,
            project_id=grant.project_id,
            public_url=grant.public_url,
            expires_at=grant.expires_at,
            backlog=grant.backlog,
        )

    @app.get("/v1/projects", responses=problem_responses(401, 503), tags=["projects"])
    async def list_projects(token: Token) -> ProjectList:
        """List the projects that the token's owner may connect to."""
        return ProjectList(projects=[_answer(view) for view in await control.projects(token)])

    @app.get("/v1/projects/{name}", responses=problem_responses(401, 404, 503), tags=["projects"])
    async def get_project(name: str, token: Token) -> ProjectDetail:
        """Show one project, who is connected to it, its policy and what waits."""
        return _detail(await control.project(token, name))

    @app.patch("/v1/projects/{name}", responses=problem_responses(401, 403, 404, 422, 503), tags=["projects"])
    async def change_project(name: str, change: PolicyChange, token: Token) -> ProjectDetail:
        """Change what is done with webhooks that cannot be delivered at once. For the project's owner."""
        return _detail(await control.change_policy(token, name, change))

    for router in routers:
        app.include_router(router)
    return app


def _answer(view: ProjectView) -> ProjectAnswer:
    return ProjectAnswer(
        id=view.project.id,
        name=view.project.name,
        public_url=view.public_url,
        created_at=view.project.created_at,
        tunnel=_tunnel(view),
    )


def _detail(view: ProjectView) -> ProjectDetail:
    return ProjectDetail(
        id=view.project.id,
        name=view.project.name,
        public_url=view.public_url,
        created_at=view.project.created_at,
        tunnel=_tunnel(view),
        policy=PolicyAnswer.of(view.project.policy),
        backlog=None if view.backlog is None else BacklogAnswer.of(view.backlog),
    )


def _tunnel(view: ProjectView) -> Tunnel | None:
    route = view.route
    return Tunnel(id=route.tunnel_id, holder=route.holder) if route is not None else None
