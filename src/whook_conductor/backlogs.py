"""Which projects have webhooks waiting, in memory, so that a request knows at once whether to queue behind.

Owns the table and the task that keeps it true: a snapshot of the queue, then the bus. Read by the ingress for
every request and by the dispatcher; a look-up must never do I/O.

A backlog *rests* while all of it has failed before and waits for its retry, and it is *ending* when all of it
is in its owner's hands. The owner says so on the bus, again and again, because what is not repeated is
forgotten: then new webhooks queue behind the backlog again, which is always safe.

A new webhook waits a moment for the end of a backlog that is ending, instead of queueing: otherwise a steady
stream would for ever prolong what is worked off as fast as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import structlog
import trio

from whook.backplane.ports import (
    TOPIC_BACKLOG,
    BacklogEvent,
    BacklogGone,
    BacklogSet,
    BacklogState,
    Bus,
    BusGap,
    Queue,
    Unavailable,
    decode_backlog_event,
)
from whook_conductor.retry import Retry

_TTL: Final = {"resting": 6.0, "ending": 2.0, "holding": 0.0}
"""Seconds for which the word of an owner is believed."""
END_WAIT: Final = 1.0
"""Seconds for which a webhook waits for the end of a backlog that is ending."""
_JUST_NOW: Final = 2.0
"""Seconds for which a project that has been appended to is taken to have a backlog, until the bus tells."""
_MAX_GONE: Final = 16_384

_log = structlog.get_logger("whook.conductor.backlogs")


class BacklogTable:
    """Every project with a backlog."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self._waiting: dict[str, int] = {}
        self._gone: dict[str, int] = {}
        self._floor = 0
        self._recent: dict[str, float] = {}
        self._states: dict[str, tuple[str, float]] = {}
        self._waiters: dict[str, trio.Event] = {}
        self.changed: Callable[[str], None] | None = None
        """Called with the id of a project of which something has come to wait."""

    def __len__(self) -> int:
        return len(self._waiting)

    def waits(self, project_id: str) -> bool:
        """Return whether anything of the project waits, as far as we know."""
        return project_id in self._waiting or (bool(self._recent) and self._is_recent(project_id))

    def holds(self, project_id: str, *, block: bool) -> bool:
        """Return whether new webhooks must queue behind those that wait.

        With `block` whatever waits holds; else not what only waits for its retry.
        """
        if not self._waiting and not self._recent:
            return False
        if not self.waits(project_id):
            return False
        return block or self._state(project_id) != "resting"

    async def wait_end(self, project_id: str, *, block: bool) -> bool:
        """Wait a moment if the backlog is ending; return whether it does no longer hold."""
        with trio.move_on_after(END_WAIT):
            while self._state(project_id) == "ending" and self.holds(project_id, block=block):
                waiter = self._waiters.get(project_id)
                if waiter is None:
                    waiter = self._waiters[project_id] = trio.Event()
                await waiter.wait()
        return not self.holds(project_id, block=block)

    def _state(self, project_id: str) -> str:
        state, until = self._states.get(project_id, ("holding", 0.0))
        return state if until > self._clock() else "holding"

    def all(self) -> list[str]:
        """Return the ids of the projects of which something waits."""
        recent = [found for found in list(self._recent) if self._is_recent(found)]
        return [*self._waiting, *(found for found in recent if found not in self._waiting)]

    def replace(self, project_ids: Iterable[str], version: int) -> None:
        """Take a snapshot, at least as new as `version`, instead of what the bus told."""
        self._waiting = dict.fromkeys(project_ids, version)
        self._gone.clear()
        self._floor = version
        for project_id in self._waiting:
            self._tell(project_id)

    def appended(self, project_id: str) -> bool:
        """Note that something has just been appended by this conductor.

        Returns whether the project rested, so that the others must be told that it does no longer.
        """
        self._recent[project_id] = self._clock() + _JUST_NOW
        rested = self._state(project_id) == "resting"
        if rested:
            self._set_state(project_id, "holding")
        self._tell(project_id)
        return rested

    def apply(self, event: BacklogEvent) -> None:
        """Take one event from the bus."""
        project_id = event.project_id
        if isinstance(event, BacklogState):
            self._set_state(project_id, event.state)
            if event.state == "holding":
                self._tell(project_id)
            return
        known = max(self._waiting.get(project_id, 0), self._gone.get(project_id, 0), self._floor)
        if event.version <= known:
            return
        if isinstance(event, BacklogSet):
            self._gone.pop(project_id, None)
            self._waiting[project_id] = event.version
            self._tell(project_id)
        else:
            self._end(event)

    def _end(self, event: BacklogGone) -> None:
        self._waiting.pop(event.project_id, None)
        self._recent.pop(event.project_id, None)
        self._set_state(event.project_id, "holding")
        if len(self._gone) >= _MAX_GONE:
            # All of them are older than this event, so that what comes later is told by its version.
            self._floor = max(self._floor, *self._gone.values())
            self._gone.clear()
        self._gone[event.project_id] = event.version

    def _set_state(self, project_id: str, state: str) -> None:
        if state == "holding":
            self._states.pop(project_id, None)
        else:
            self._states[project_id] = (state, self._clock() + _TTL[state])
        waiter = self._waiters.pop(project_id, None)
        if waiter is not None:
            waiter.set()

    def _is_recent(self, project_id: str) -> bool:
        until = self._recent.get(project_id)
        if until is None:
            return False
        if until > self._clock():
            return True
        del self._recent[project_id]
        return False

    def _tell(self, project_id: str) -> None:
        if self.changed is not None:
            self.changed(project_id)


async def sync_backlogs(
    table: BacklogTable,
    queue: Queue,
    bus: Bus,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep `table` true, for ever; started after the first attempt, whether the queue answered or not.

    While the queue cannot be asked the last state stands: what held goes on holding.
    """
    started = False
    retry = Retry()
    while True:
        try:
            async with bus.subscribe(TOPIC_BACKLOG) as subscription:
                while True:
                    # The version first, and both under the subscription: nothing in between is missed.
                    version = await queue.version()
                    table.replace(await queue.backlogs(), version)
                    retry.reset()
                    if not started:
                        started = True
                        task_status.started()
                    try:
                        async for _, message in subscription:
                            table.apply(decode_backlog_event(message))
                    except BusGap:
                        _log.warning("the bus has a gap: reloading the backlogs")
        except Unavailable as error:
            _log.warning("cannot follow the queue", error=str(error))
            if not started:
                started = True
                task_status.started()
        await retry.pause()
