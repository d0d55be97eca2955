"""The control API as HTTP: `POST /v1/tunnels`, `GET /v1/projects`.

Built by the service and served by the chassis. Shape only: what is decided is in `control`. Every error,
those of the framework included, is a problem (RFC 9457) with a stable type.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from whook.chassis.metrics import version
from whook.chassis.problem import CONTENT_TYPE, ProblemError
from whook_conductor.control import Control, ProjectView


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


class ProjectList(BaseModel):
    """Projects by name."""

    projects: list[ProjectAnswer]


class Problem(BaseModel):
    """A problem (RFC 9457)."""

    type: str = Field(examples=["urn:whook:problem:forbidden"])
    title: str
    status: int
    detail: str = ""


_bearer = HTTPBearer(auto_error=False, description="An access token (`whk_…`).")


async def _token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    return credentials.credentials if credentials is not None else ""


Token = Annotated[str, Depends(_token)]


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {CONTENT_TYPE: {"schema": schema}},
            "model": Problem,
        }
        for status in statuses
    }


def build_api(control: Control) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="whook conductor", version=version(), docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)

    @app.post("/v1/tunnels", responses=_problems(401, 403, 422, 503), tags=["tunnels"])
    async def open_tunnel(wanted: TunnelRequest, token: Token) -> TunnelGrant:
        """Open a tunnel for a project, which is made on first use if the token may."""
        grant = await control.open_tunnel(token, wanted.project, watch=wanted.watch)
        return TunnelGrant(
            websocket_url=grant.websocket_url,
            token=grant.token,
            project_id=grant.project_id,
            public_url=grant.public_url,
            expires_at=grant.expires_at,
        )

    @app.get("/v1/projects", responses=_problems(401, 503), tags=["projects"])
    async def list_projects(token: Token) -> ProjectList:
        """List the projects that the token's owner may connect to."""
        return ProjectList(projects=[_answer(view) for view in await control.projects(token)])

    @app.get("/v1/projects/{name}", responses=_problems(401, 404, 503), tags=["projects"])
    async def get_project(name: str, token: Token) -> ProjectAnswer:
        """Show one project and who is connected to it."""
        return _answer(await control.project(token, name))

    return app


def _answer(view: ProjectView) -> ProjectAnswer:
    route = view.route
    return ProjectAnswer(
        id=view.project.id,
        name=view.project.name,
        public_url=view.public_url,
        created_at=view.project.created_at,
        tunnel=Tunnel(id=route.tunnel_id, holder=route.holder) if route is not None else None,
    )


def _respond(error: ProblemError, headers: Mapping[str, str] | None = None) -> Response:
    response = Response(error.body, error.status, headers)
    for name, value in error.headers:
        response.headers[name.decode()] = value.decode()
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["www-authenticate"] = "Bearer"
    return response


async def _on_problem(_: Request, error: Exception) -> Response:
    return _respond(cast("ProblemError", error))


async def _on_invalid(_: Request, error: Exception) -> Response:
    faults = [
        {"at": ".".join(str(part) for part in fault["loc"]), "fault": fault["msg"]}
        for fault in cast("RequestValidationError", error).errors()
    ]
    detail = "; ".join(f"{fault['at']}: {fault['fault']}" for fault in faults)
    return _respond(ProblemError(422, "invalid-request", "Invalid request", detail, errors=faults))


async def _on_http_error(_: Request, error: Exception) -> Response:
    raised = cast("HTTPException", error)
    phrase = HTTPStatus(raised.status_code).phrase
    slug = phrase.lower().replace(" ", "-")
    return _respond(ProblemError(raised.status_code, slug, phrase), raised.headers)


async def _on_defect(_: Request, __: Exception) -> Response:
    return _respond(
        ProblemError(500, "internal-error", "Internal error", "This is a defect; the log says more.")
    )
