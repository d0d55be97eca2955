"""Those who wait for the next event of a project: who is woken when, and how many may wait.

`Followers.wait` is called by the events API for each request that waits; `run` is one task of the service;
`Observed` stands before the history of this process, so that what is recorded here wakes at once. What other
processes record is found by asking the store now and then, once for each project however many wait for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import trio

from whook.backplane.ports import (
    EventDetail,
    EventPlace,
    EventQuery,
    EventSummary,
    Found,
    History,
    HistorySize,
    News,
    Unavailable,
)
from whook.chassis.drain import Drain

MAX_WAITING: Final = 256
"""Requests that may wait at once."""
LOOK_INTERVAL: Final = 2.0
"""Seconds between two looks at the store for a project that somebody waits for."""


class TooManyFollowersError(Exception):
    """So many wait that no other one may."""


class _Project:
    """One project that somebody waits for."""

    __slots__ = ("changed", "newest", "waiting")

    def __init__(self) -> None:
        self.changed = trio.Event()
        self.newest = -1
        self.waiting = 0

    def wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class Followers:
    """Waits for events in the order in which they were recorded."""

    def __init__(
        self,
        history: History,
        drain: Drain,
        *,
        max_waiting: int = MAX_WAITING,
        interval: float = LOOK_INTERVAL,
    ) -> None:
        """`interval` is in seconds."""
        self._history = history
        self._drain = drain
        self._max = max_waiting
        self._interval = interval
        self._projects: dict[str, _Project] = {}
        self._somebody = trio.Event()
        self.waiting = 0

    async def newest(self, project_id: str) -> int:
        """Return the sequence of the newest event, 0 when there is none. Raises `Unavailable`."""
        found = await self._history.follow(project_id, -1, 1)
        return found[-1].sequence if found else 0

    async def wait(self, project_id: str, after: int, limit: int, seconds: float) -> list[EventSummary]:
        """Return events behind the sequence `after`; none if none came within `seconds`, or at a drain.

        Raises `TooManyFollowersError` and `Unavailable`.
        """
        if self.waiting >= self._max:
            raise TooManyFollowersError
        ends = trio.current_time() + seconds
        project = self._projects.setdefault(project_id, _Project())
        project.waiting += 1
        self.waiting += 1
        self._somebody.set()
        try:
            while True:
                changed = project.changed  # taken before the look, so that nothing falls between
                found = await self._history.follow(project_id, after, limit)
                if found or self._drain.begun or trio.current_time() >= ends:
                    return found
                with trio.move_on_at(ends):
                    await changed.wait()
        finally:
            self.waiting -= 1
            project.waiting -= 1
            if not project.waiting:
                del self._projects[project_id]

    def wake(self, project_ids: Iterable[str]) -> None:
        """Let those look again who wait for one of these projects."""
        for project_id in project_ids:
            if (project := self._projects.get(project_id)) is not None:
                project.wake()

    async def run(self) -> None:
        """Look for what other processes recorded, for ever; at the drain let everybody go."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end, name="followers at the drain")
            while True:
                await self._somebody.wait()
                self._somebody = trio.Event()
                while self._projects:
                    await trio.sleep(self._interval)
                    for project_id, project in list(self._projects.items()):
                        await self._look(project_id, project)

    async def _look(self, project_id: str, project: _Project) -> None:
        try:
            newest = await self.newest(project_id)
        except Unavailable:
            newest = project.newest  # whoever looks next is told
        if newest != project.newest:
            project.newest = newest
            project.wake()

    async def _end(self) -> None:
        await self._drain.wait()
        self.wake(list(self._projects))


class Observed:
    """A history that tells the followers of this process what is recorded in it."""

    def __init__(self, history: History, followers: Followers) -> None:
        self._history = history
        self._followers = followers

    async def record(self, records: Sequence[News]) -> None:
        """Store news, then wake. Raises `Unavailable`."""
        await self._history.record(records)
        self._followers.wake({record.project_id for record in records})

    async def find(self, project_id: str, query: EventQuery) -> Found:
        """Return matching events."""
        return await self._history.find(project_id, query)

    async def follow(self, project_id: str, after: int, limit: int) -> list[EventSummary]:
        """Return events behind a sequence."""
        return await self._history.follow(project_id, after, limit)

    async def get(self, project_id: str, event_id: str) -> EventDetail | None:
        """Return one event."""
        return await self._history.get(project_id, event_id)

    async def locate(self, event_id: str) -> EventPlace | None:
        """Pass it on."""
        return await self._history.locate(event_id)

    async def dead_letters(self) -> dict[str, int]:
        """Pass it on."""
        return await self._history.dead_letters()

    async def size(self) -> HistorySize:
        """Return what the history takes."""
        return await self._history.size()

    async def claim_pruning(self, every: float) -> bool:
        """Return whether the caller is to prune."""
        return await self._history.claim_pruning(every)

    async def prune(
        self, *, before: float, keep_bytes: int, dead_before: float, waiting: Collection[str] = ()
    ) -> int:
        """Delete events."""
        return await self._history.prune(
            before=before, keep_bytes=keep_bytes, dead_before=dead_before, waiting=waiting
        )
