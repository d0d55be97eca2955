"""Which projects exist, remembered for a while, so that a stranger's guesses do not become database queries.

Asked by the resolver only when a name has no route, and by nothing on the way of a deliverable webhook. What
is remembered is bounded in number and time, and so are look-ups that wait for the store.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import structlog
import trio

from whook.backplane.ports import (
    TOPIC_PROJECTS,
    Bus,
    BusGap,
    Project,
    ProjectGone,
    Projects,
    ProjectSet,
    Unavailable,
    decode_project_event,
)
from whook_conductor.retry import Retry

MAX_LOOKUPS: Final = 8
"""Look-ups in the store at the same time: half of a small database's connections, whatever strangers ask."""
MAX_WAITING: Final = 512
"""Requests that may wait for a look-up. Beyond it they are refused, since the store is too slow already."""
_MAX_KNOWN: Final = 65_536

_log = structlog.get_logger("whook.conductor.projects")


class LookupsBusyError(Exception):
    """Too many look-ups are waiting for the store already."""


class ProjectCache:
    """The store's projects by name, with a memory for names that do not exist."""

    def __init__(self, store: Projects, *, ttl: float, unknown_ttl: float, max_unknown: int) -> None:
        """`ttl` and `unknown_ttl` are how long, in seconds, existence and absence are believed."""
        self._store = store
        self._ttl = ttl
        self._unknown_ttl = unknown_ttl
        self._max_unknown = max_unknown
        self._known: dict[str, tuple[float, Project]] = {}
        self._unknown: dict[str, float] = {}
        self._limiter = trio.CapacityLimiter(MAX_LOOKUPS)
        self._waiting = 0

    def peek(self, name: str) -> Project | Literal[False] | None:
        """Return the project, False when it is remembered not to exist, None when the store must be asked."""
        now = trio.current_time()
        known = self._known.get(name)
        if known is not None and known[0] > now:
            return known[1]
        unknown = self._unknown.get(name)
        if unknown is not None and unknown > now:
            return False
        return None

    async def find(self, name: str) -> Project | None:
        """Return the project of this name, or None.

        Raises `LookupsBusyError`, and `Unavailable` when the store cannot be asked; but a project that was
        known before is still taken to exist then.
        """
        found = self.peek(name)
        if found is not None:
            return found or None
        if self._waiting >= MAX_WAITING:
            raise LookupsBusyError
        self._waiting += 1
        try:
            async with self._limiter:
                # Another request may have brought the answer while this one waited its turn.
                found = self.peek(name)
                if found is not None:
                    return found or None
                project = await self._store.get(name)
        except Unavailable:
            if name in self._known:
                return self._known[name][1]
            raise
        finally:
            self._waiting -= 1
        if project is None:
            self._remember_unknown(name)
        else:
            self.remember(project)
        return project

    def remember(self, project: Project) -> None:
        """Note that `project` exists."""
        self._unknown.pop(project.name, None)
        self._known.pop(project.name, None)
        if len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[project.name] = (trio.current_time() + self._ttl, project)

    async def delete(self, name: str, made_before: datetime) -> None:
        """Delete a project whose name was given up; one that was made since stays."""
        self._known.pop(name, None)
        await self._store.delete(name, made_before)

    def forget_unknown(self) -> None:
        """Ask the store again about every name that did not exist."""
        self._unknown.clear()

    def _remember_unknown(self, name: str) -> None:
        self._known.pop(name, None)
        self._unknown.pop(name, None)
        if len(self._unknown) >= self._max_unknown:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[name] = trio.current_time() + self._unknown_ttl


async def sync_projects(cache: ProjectCache, bus: Bus) -> None:
    """Tell `cache` of projects made elsewhere, for ever: a new name must not stay unknown."""
    retry = Retry()
    while True:
        try:
            async with bus.subscribe(TOPIC_PROJECTS) as subscription:
                while True:
                    cache.forget_unknown()
                    try:
                        async for _, message in subscription:
                            retry.reset()
                            await _follow(cache, decode_project_event(message))
                    except BusGap:
                        await trio.lowlevel.checkpoint()
        except Unavailable as error:
            _log.warning("cannot follow the projects", error=str(error))
        await retry.pause()


async def _follow(cache: ProjectCache, event: ProjectSet | ProjectGone) -> None:
    if isinstance(event, ProjectSet):
        cache.remember(event.project)
    else:
        await cache.delete(event.project, event.deleted_at)
