"""What the operators' part of the API answers, and how it is made of what `admin` found.

Used by `admin_api` alone. Shapes only.
"""

from __future__ import annotations

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from whook.backplane.ports import Route
from whook_conductor.admin import (
    ProjectEntry,
    ProjectPage,
    QueueEntry,
    QueueView,
    RelayView,
    TunnelPage,
)
from whook_conductor.events_models import BacklogAnswer


class RelayAnswer(BaseModel):
    """A relay as it last announced itself."""

    id: str
    tunnel_url: str = Field(description="Where clients open their tunnels.")
    trunk_url: str = Field(description="Where conductors open their trunks.")
    version: str
    load: int = Field(description="Tunnels that it holds, as it last said; those that only watch included.")
    capacity: int = Field(description="Tunnels that it takes at most.")
    routes: int = Field(description="Projects that it holds, as the conductor knows that answers.")
    draining: bool = Field(description="It takes no new tunnels.")
    lease_left: float = Field(description="Seconds until its lease ends, unless it is renewed before.")

    @classmethod
    def of(cls, view: RelayView) -> Self:
        """Return a relay as the API shows it."""
        relay = view.lease.relay
        return cls(
            id=relay.id,
            tunnel_url=relay.tunnel_url,
            trunk_url=relay.trunk_url,
            version=relay.version,
            load=relay.load,
            capacity=relay.capacity,
            routes=view.routes,
            draining=relay.draining,
            lease_left=round(view.lease.left, 3),
        )


class RelayList(BaseModel):
    """Every relay with a lease, by id."""

    relays: list[RelayAnswer]


class TunnelAnswer(BaseModel):
    """A tunnel that holds a project."""

    id: str
    project: str
    project_id: str
    relay: str
    holder: str = Field(description="User and machine, as the client says.")

    @classmethod
    def of(cls, route: Route) -> Self:
        """Return a tunnel as the API shows it."""
        return cls(
            id=route.tunnel_id,
            project=route.project,
            project_id=route.project_id,
            relay=route.relay_id,
            holder=route.holder,
        )


class TunnelList(BaseModel):
    """Tunnels by project."""

    tunnels: list[TunnelAnswer]
    next: str | None = Field(description="Give it as `after` for what comes next; null at the end.")
    complete: bool = Field(description="false while the conductor that answers may lack some.")

    @classmethod
    def of(cls, page: TunnelPage) -> Self:
        """Return a page as the API shows it."""
        tunnels = [TunnelAnswer.of(route) for route in page.routes]
        return cls(tunnels=tunnels, next=page.next, complete=page.complete)


class AdminProjectAnswer(BaseModel):
    """A project, who is connected to it, and what waits."""

    id: str
    name: str
    created_at: datetime
    tunnel: TunnelAnswer | None
    backlog: BacklogAnswer | None = Field(description="null while the queue does not answer.")

    @classmethod
    def of(cls, entry: ProjectEntry) -> Self:
        """Return a project as the API shows it."""
        return cls(
            id=entry.project.id,
            name=entry.project.name,
            created_at=entry.project.created_at,
            tunnel=None if entry.route is None else TunnelAnswer.of(entry.route),
            backlog=None if entry.backlog is None else BacklogAnswer.of(entry.backlog),
        )


class AdminProjectList(BaseModel):
    """Projects by name, whosever they are."""

    projects: list[AdminProjectAnswer]
    next: str | None = Field(description="Give it as `after` for what comes next; null at the end.")

    @classmethod
    def of(cls, page: ProjectPage) -> Self:
        """Return a page as the API shows it."""
        return cls(projects=[AdminProjectAnswer.of(entry) for entry in page.projects], next=page.next)


class QueueEntryAnswer(BaseModel):
    """What of one project waits, and its dead letters."""

    project_id: str
    project: str | None = Field(description="null for a project that is no more.")
    backlog: BacklogAnswer
    dead: int | None = Field(description="Dead letters; null while the history does not answer.")

    @classmethod
    def of(cls, entry: QueueEntry) -> Self:
        """Return an entry as the API shows it."""
        return cls(
            project_id=entry.project_id,
            project=entry.project,
            backlog=BacklogAnswer.of(entry.backlog),
            dead=entry.dead,
        )


class QueueAnswer(BaseModel):
    """The whole queue."""

    total: BacklogAnswer
    dead: int | None = Field(description="Dead letters in all; null while the history does not answer.")
    projects: list[QueueEntryAnswer] = Field(description="What has waited for longest comes first.")
    left_out: int = Field(description="Projects beyond the limit.")

    @classmethod
    def of(cls, view: QueueView) -> Self:
        """Return the queue as the API shows it."""
        return cls(
            total=BacklogAnswer.of(view.total),
            dead=view.dead,
            projects=[QueueEntryAnswer.of(entry) for entry in view.projects],
            left_out=view.left_out,
        )
