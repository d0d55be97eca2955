"""What `whook admin` asks of the conductor's API, and how its refusals end the command.

Called by `admin_commands`. Every call takes a token of the scope admin. Nothing is remembered in between.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from whook_cli.api import Calls, Unavailable
from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.replies import check, decode

PAGE: Final = 1_000
"""Entries asked for at once: as many as the server gives."""
_THINGS: Final = frozenset({"unknown-relay", "unknown-tunnel"})
_FORBIDDEN: Final = "an admin gets one with whook tokens create NAME --scope admin"

T = TypeVar("T")


class Relay(msgspec.Struct):
    """A relay as it last announced itself."""

    id: str
    tunnel_url: str
    trunk_url: str
    version: str
    load: int
    capacity: int
    routes: int
    draining: bool
    lease_left: float


class Tunnel(msgspec.Struct):
    """A tunnel that holds a project."""

    id: str
    project: str
    project_id: str
    relay: str
    holder: str


class Backlog(msgspec.Struct):
    """What waits."""

    count: int
    bytes: int
    oldest_at: datetime | None


class Project(msgspec.Struct):
    """A project, who is connected, and what waits."""

    id: str
    name: str
    created_at: datetime
    tunnel: Tunnel | None
    backlog: Backlog | None


class QueueEntry(msgspec.Struct):
    """What of one project waits or is dead."""

    project_id: str
    project: str | None
    backlog: Backlog
    dead: int | None


class Queue(msgspec.Struct):
    """The whole queue."""

    total: Backlog
    dead: int | None
    projects: list[QueueEntry]
    left_out: int


class TunnelPage(msgspec.Struct):
    """Tunnels, and where to go on."""

    tunnels: list[Tunnel]
    next: str | None
    complete: bool


class ProjectPage(msgspec.Struct):
    """Projects, and where to go on."""

    projects: list[Project]
    next: str | None


class _Relays(msgspec.Struct):
    relays: list[Relay]


@dataclass(frozen=True, slots=True)
class AdminApi:
    """The operators' part of a server's API. All raise `Exit`."""

    server: str
    token: str
    calls: Calls

    def __repr__(self) -> str:
        return f"<AdminApi {self.server}>"

    async def relays(self) -> list[Relay]:
        """Give the relays by id."""
        return (await self._ask("GET", "relays", _Relays)).relays

    async def drain(self, relay: str, *, undo: bool) -> Relay:
        """Take a relay out of service, or put it back."""
        return await self._ask("DELETE" if undo else "PUT", f"relays/{_part(relay)}/drain", Relay)

    async def tunnels(self, project: str | None, relay: str | None, after: str, limit: int) -> TunnelPage:
        """Give a page of tunnels by project."""
        params = _page(after, limit)
        params += [(name, value) for name, value in (("project", project), ("relay", relay)) if value]
        return await self._ask("GET", "tunnels", TunnelPage, params)

    async def kick(self, tunnel: str) -> Tunnel:
        """Have a tunnel closed."""
        return await self._ask("DELETE", f"tunnels/{_part(tunnel)}", Tunnel)

    async def projects(self, after: str, limit: int) -> ProjectPage:
        """Give a page of projects by name."""
        return await self._ask("GET", "projects", ProjectPage, _page(after, limit))

    async def queue(self, limit: int) -> Queue:
        """Give the queue, and the projects in which something has waited for longest."""
        return await self._ask("GET", "queue", Queue, [("limit", str(limit))])

    async def _ask(
        self, method: str, path: str, kind: type[T], params: list[tuple[str, str]] | None = None
    ) -> T:
        url = f"{self.server}/v1/admin/{path}"
        try:
            reply = await self.calls.call(method, url, token=self.token, params=params)
        except Unavailable as error:
            raise Exit(ExitCode.UNREACHABLE, str(error)) from None
        check(reply, things=_THINGS, no_api="is older than this client", forbidden=_FORBIDDEN)
        return decode(reply, kind)


def _page(after: str, limit: int) -> list[tuple[str, str]]:
    return [("limit", str(min(limit, PAGE))), *([("after", after)] if after else [])]


def _part(text: str) -> str:
    """Give a part of a path. Raises `UsageError` for what would be another path."""
    if text in ("", ".", ".."):
        raise UsageError(f"{text!r} is no id")
    return quote(text, safe="")
