"""Which projects exist, remembered for a while, so that a stranger's guesses do not become database queries.

Asked by the resolver only when a name has no route, and by nothing on the way of a deliverable webhook. What
is remembered is bounded in number and time, and so are look-ups that wait for the store. Policies that are
not the default one are known of every project, without asking.
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
from whook_conductor.policies import Policies
from whook_conductor.retry import Retry

MAX_LOOKUPS: Final = 8
"""Look-ups in the store at the same time: half of a small database's connections, whatever strangers ask."""
MAX_WAITING: Final = 512
"""Requests that may wait for a look-up. Beyond it they are refused, since the store is too slow already."""
_MAX_KNOWN: Final = 65_536

_log = structlog.get_logger("whook.conductor.projects")


class LookupsBusyError(Exception):
    """Too many look-ups are waiting for the store already."""


class _Lookup:
    """One question to the store, and whoever waits for its answer."""

    __slots__ = ("failure", "over")

    def __init__(self) -> None:
        self.over = trio.Event()
        self.failure: Unavailable | None = None


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
        self._lookups: dict[str, _Lookup] = {}
        self._waiting = 0
        self.policies = Policies()

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
        """Return the project of this name, or None. Requests for one name at a time share one look-up.

        Raises `LookupsBusyError`, and `Unavailable` when the store cannot be asked; but a project that was
        known before is still taken to exist then.
        """
        while (found := self.peek(name)) is None:
            lookup = self._lookups.get(name)
            if lookup is None:
                return await self._look_up(name)
            self._check_room()
            self._waiting += 1
            try:
                await lookup.over.wait()
            finally:
                self._waiting -= 1
            if lookup.failure is not None:
                return self._stale_or_raise(name, lookup.failure)
        return found or None

    async def _look_up(self, name: str) -> Project | None:
        self._check_room()
        lookup = self._lookups[name] = _Lookup()
        before = self._known.get(name)
        self._waiting += 1
        try:
            async with self._limiter:
                project = await self._store.get(name)
        except Unavailable as error:
            lookup.failure = error
            return self._stale_or_raise(name, error)
        finally:
            self._waiting -= 1
            del self._lookups[name]
            lookup.over.set()
        told = self._known.get(name)
        if told is not None and told is not before:
            return told[1]  # made or changed while the store was asked: the bus knows better
        if project is None:
            self._remember_unknown(name)
        else:
            self.remember(project)
        return project

    def _check_room(self) -> None:
        if self._waiting >= MAX_WAITING:
            raise LookupsBusyError

    def _stale_or_raise(self, name: str, failure: Unavailable) -> Project:
        if name in self._known:
            return self._known[name][1]
        raise Unavailable(*failure.args) from failure

    def remember(self, project: Project) -> None:
        """Note that `project` exists."""
        self._unknown.pop(project.name, None)
        self._known.pop(project.name, None)
        if len(self._known) >= _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[project.name] = (trio.current_time() + self._ttl, project)
        self.policies.learn(project)

    async def delete(self, name: str, made_before: datetime) -> None:
        """Delete a project whose name was given up; one that was made since stays."""
        known = self._known.pop(name, None)
        if known is not None and known[1].created_at < made_before:
            self.policies.forget(known[1].id)
        await self._store.delete(name, made_before)

    async def reload(self) -> None:
        """Read all policies anew, and ask the store again about every name that did not exist.

        Raises `Unavailable`; what was known stands then.
        """
        self._unknown.clear()
        self.policies.replace(await self._store.with_policies())

    def _remember_unknown(self, name: str) -> None:
        self._known.pop(name, None)
        self._unknown.pop(name, None)
        if len(self._unknown) >= self._max_unknown:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[name] = trio.current_time() + self._unknown_ttl


async def sync_projects(
    cache: ProjectCache, bus: Bus, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Tell `cache` of projects made or changed elsewhere, for ever: a new name must not stay unknown.

    Started when the policies are known for the first time.
    """
    retry = Retry()
    started = False
    while True:
        try:
            async with bus.subscribe(TOPIC_PROJECTS) as subscription:
                while True:
                    # Under the subscription: no change between the snapshot and the events is missed.
                    await cache.reload()
                    if not started:
                        started = True
                        task_status.started()
                    try:
                        async for _, message in subscription:
                            retry.reset()
                            await _follow(cache, decode_project_event(message))
                    except BusGap:
                        await trio.lowlevel.checkpoint()
        except Unavailable as error:
            _log.warning("cannot follow the projects", error=str(error))
        await retry.pause()


async def _follow(cache: ProjectCache, event: ProjectSet | ProjectGone | None) -> None:
    if isinstance(event, ProjectSet):
        cache.remember(event.project)
    elif isinstance(event, ProjectGone):
        await cache.delete(event.project, event.deleted_at)
