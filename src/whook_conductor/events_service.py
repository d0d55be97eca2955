"""The events API put together: what the service mounts, what it runs, and the history to record through.

Called by `service` once. Holds no logic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter

from whook.backplane.ports import Auth, Blobs, History, Project, Projects, Queue, QueueLimits
from whook.chassis.drain import Drain
from whook_conductor.events import Events
from whook_conductor.events_api import events_router
from whook_conductor.followers import Followers, Observed
from whook_conductor.policies import Rules
from whook_conductor.replays import Replays
from whook_conductor.settings import ConductorSettings


@dataclass(frozen=True, slots=True)
class EventsService:
    """What there is of it."""

    router: APIRouter
    """To be mounted into the API."""
    history: History
    """Whatever records in this process records through it, so that those who follow are woken at once."""
    run: Callable[[], Awaitable[None]]
    """Wakes those who follow, for ever."""


def make_events_service(
    settings: ConductorSettings,
    *,
    auth: Auth,
    projects: Projects,
    history: History,
    blobs: Blobs | None,
    queue: Queue | None,
    drain: Drain,
) -> EventsService:
    """Put it together. Without a `queue` nothing can be replayed."""

    def limits(project: Project) -> QueueLimits:
        return _half(
            Rules(project.policy).limits(
                total_count=settings.max_buffered_count, total_bytes=settings.max_buffered_bytes
            )
        )

    followers = Followers(history, drain)
    observed = Observed(history, followers)
    events = Events(
        auth=auth, projects=projects, history=observed, blobs=blobs, queue=queue, followers=followers
    )
    router = events_router(events, Replays(events, observed, queue, blobs, limits))
    return EventsService(router, observed, followers.run)


def _half(limits: QueueLimits) -> QueueLimits:
    """Return what replays may fill: the rest is for webhooks whose senders cannot wait."""
    return dataclasses.replace(
        limits,
        project_count=max(1, limits.project_count // 2),
        project_bytes=limits.project_bytes // 2,
        total_count=max(1, limits.total_count // 2),
        total_bytes=limits.total_bytes // 2,
    )
