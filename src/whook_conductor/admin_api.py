"""The operators' part of the API as HTTP: `/v1/admin/…`.

Built by the service and mounted by `api`. Shape only: what is decided is in `admin`. Everything here takes a
token of the scope `admin`, held by an admin.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query

from whook.chassis.api import problem_responses
from whook_conductor.admin import Admin
from whook_conductor.admin_models import (
    AdminProjectList,
    QueueAnswer,
    RelayAnswer,
    RelayList,
    TunnelAnswer,
    TunnelList,
)
from whook_conductor.bearer import Token

MAX_LIMIT: Final = 1_000
_ID: Final = r"^[A-Za-z0-9._-]+$"
_NAME: Final = r"^[a-z0-9-]*$"

Relay = Annotated[str, Path(max_length=63, pattern=_ID, description="The relay's id.")]
Tunnel = Annotated[str, Path(max_length=64, pattern=_ID, description="The tunnel's id: `tun_…`.")]
After = Annotated[str, Query(max_length=63, pattern=_NAME, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]


def admin_router(admin: Admin) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/v1/admin", tags=["admin"])
    refusals = problem_responses(401, 403, 422, 503)

    @router.get("/relays", responses=problem_responses(401, 403, 503))
    async def list_relays(token: Token) -> RelayList:
        """List the relays with their load and their leases."""
        return RelayList(relays=[RelayAnswer.of(view) for view in await admin.relays(token)])

    @router.put(
        "/relays/{relay}/drain", status_code=202, responses={**problem_responses(404, 409), **refusals}
    )
    async def drain_relay(relay: Relay, token: Token) -> RelayAnswer:
        """Have a relay take no new tunnels and send its clients to other relays, until it is restarted.

        It is told over the bus: `draining` in the list says that it has heard, a `load` of 0 that it is done.
        """
        return RelayAnswer.of(await admin.drain(token, relay, undo=False))

    @router.delete("/relays/{relay}/drain", status_code=202, responses={**problem_responses(404), **refusals})
    async def undrain_relay(relay: Relay, token: Token) -> RelayAnswer:
        """Have a relay take tunnels again."""
        return RelayAnswer.of(await admin.drain(token, relay, undo=True))

    @router.get("/tunnels", responses=refusals)
    async def list_tunnels(
        token: Token,
        project: Annotated[
            str | None, Query(max_length=63, pattern=_NAME, description="Only that of this project.")
        ] = None,
        relay: Annotated[
            str | None, Query(max_length=63, pattern=_ID, description="Only those on this relay.")
        ] = None,
        after: After = "",
        limit: Limit = 100,
    ) -> TunnelList:
        """List the tunnels that hold projects, by project. Those that only watch are not among them."""
        page = await admin.tunnels(token, project=project, relay_id=relay, after=after, limit=limit)
        return TunnelList.of(page)

    @router.delete("/tunnels/{tunnel}", status_code=202, responses={**problem_responses(404), **refusals})
    async def kick_tunnel(tunnel: Tunnel, token: Token) -> TunnelAnswer:
        """Have a tunnel closed. Its client ends; it may come again, unless its right is taken as well."""
        return TunnelAnswer.of(await admin.kick(token, tunnel))

    @router.get("/projects", responses=refusals)
    async def list_all_projects(token: Token, after: After = "", limit: Limit = 100) -> AdminProjectList:
        """List all projects, whosever they are, with what waits."""
        return AdminProjectList.of(await admin.projects(token, after=after, limit=limit))

    @router.get("/queue", responses=refusals)
    async def show_queue(token: Token, limit: Limit = 100) -> QueueAnswer:
        """Show what waits, in all and by project, and how many dead letters there are."""
        return QueueAnswer.of(await admin.queue(token, limit=limit))

    return router
