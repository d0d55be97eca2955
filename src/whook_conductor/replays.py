"""Replays: events of the history put into the queue again, in order, to be delivered like any that waits.

Called by `events_api`. A replay is another delivery of the same event: its id, its head and its body are the
stored ones. It never decides who may; and it never hides what it could not queue.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
import trio

from whook.backplane.ports import (
    Blobs,
    EventDetail,
    EventQuery,
    Found,
    History,
    Project,
    Queue,
    QueueFull,
    QueueLimits,
    StoredEvent,
    Unavailable,
)
from whook.chassis.problem import ProblemError
from whook_conductor.buffering import MAX_INLINE
from whook_conductor.events import Events, no_queue
from whook_conductor.refusals import busy, refusals

MAX_EVENTS: Final = 1_000
"""Events that one request may queue."""
PAGE: Final = 200
"""Events looked up at once."""
PATIENCE: Final = 10.0
"""Seconds after which a request ends with what it has done; its answer says where to go on."""

Reason = Literal["unknown-event", "body-not-kept", "still-waiting"]
Stopped = Literal["queue-full", "unavailable"]


@dataclass(slots=True)
class Replayed:
    """What became of a request for replays."""

    queued: list[str] = field(default_factory=list)
    """In the order in which they will be delivered."""
    skipped: list[tuple[str, Reason]] = field(default_factory=list)
    stopped: Stopped | None = None
    """Why it ended before everything was done; None if it did not, or only for its own bounds."""
    next: str | None = None
    """What to give as `after` to go on; None when nothing is left. Of a range only."""


class Replays:
    """Queues events again."""

    def __init__(
        self,
        events: Events,
        history: History,
        queue: Queue | None,
        blobs: Blobs | None,
        limits: Callable[[Project], QueueLimits],
    ) -> None:
        """`limits` says how much of a project may wait; `blobs` is where the queue's large bodies are."""
        self._events = events
        self._blobs = blobs
        self._history = history
        self._queue = queue
        self._limits = limits

    async def replay_events(self, token: str, name: str, event_ids: list[str]) -> Replayed:
        """Queue these events in this order. Raises `ProblemError`, only when none was queued."""
        project = await self._events.project(token, name, "events:replay")
        queue = self._need_queue()
        done = Replayed()
        for event_id in event_ids:
            try:
                detail = await self._events.load(project, event_id)
            except ProblemError as problem:
                if problem.slug != "unknown-event":
                    return _ended(done, "unavailable")
                done.skipped.append((event_id, "unknown-event"))
                continue
            if not await self._queue_one(queue, project, detail, done):
                return done
        return done

    async def replay_range(self, token: str, name: str, query: EventQuery) -> Replayed:
        """Queue what matches, the oldest first, at most MAX_EVENTS. Raises as `replay_events`.

        Events that wait in the queue already are skipped, unless the query asks for their state.
        """
        project = await self._events.project(token, name, "events:replay")
        queue = self._need_queue()
        done = Replayed(next=query.after or None)
        ends = trio.current_time() + PATIENCE
        seen = 0
        while True:
            page = dataclasses.replace(query, oldest_first=True, after=done.next or "", limit=PAGE)
            found = await self._find(project, page)
            if found is None:
                return _ended(done, "unavailable")
            for summary in found:
                if seen >= MAX_EVENTS or (seen and trio.current_time() >= ends):
                    return done
                if summary.state == "buffered" and "buffered" not in query.states:
                    done.skipped.append((summary.id, "still-waiting"))
                else:
                    try:
                        with refusals():
                            detail = await self._history.get(project.id, summary.id)
                    except ProblemError:
                        return _ended(done, "unavailable")
                    if detail is None:  # pruned since
                        done.skipped.append((summary.id, "unknown-event"))
                    elif not await self._queue_one(queue, project, detail, done):
                        return done
                done.next = summary.id
                seen += 1
            if found.scanned_to:
                done.next = found.scanned_to
            elif len(found) < PAGE:
                done.next = None
                return done

    async def _find(self, project: Project, query: EventQuery) -> Found | None:
        """Return a page; None while the store does not answer."""
        try:
            with refusals():
                return await self._history.find(project.id, query)
        except ProblemError:
            return None

    def _need_queue(self) -> Queue:
        if self._queue is None:
            raise no_queue()
        return self._queue

    async def _queue_one(self, queue: Queue, project: Project, detail: EventDetail, done: Replayed) -> bool:
        """Queue one event, or skip it; return False if the request has to end here."""
        event = detail.event
        try:
            body = await self._events.body(event)
            if body is None:
                done.skipped.append((event.id, "body-not-kept"))
                return True
            event = await self._with_body(event, body)
            attempts = max((one.attempt for one in detail.deliveries), default=0)
            await queue.append(event, self._limits(project), origin="replay", attempts=attempts)
        except QueueFull:
            _ended(done, "queue-full")
            return False
        except (Unavailable, ProblemError):
            _ended(done, "unavailable")
            return False
        done.queued.append(event.id)
        return True

    async def _with_body(self, event: StoredEvent, body: bytes) -> StoredEvent:
        """Return the event as the queue takes it: with a small body, a large one being a blob."""
        if len(body) <= MAX_INLINE or self._blobs is None:
            return msgspec.structs.replace(event, body=body)
        await self._blobs.put(event.id, body)
        return msgspec.structs.replace(event, body=None)


def _ended(done: Replayed, why: Stopped) -> Replayed:
    if done.queued:
        done.stopped = why
        return done
    if why == "queue-full":
        raise busy("queue-full", "Queue full", "As much of this project waits as may; deliver that first.")
    raise busy("unavailable", "Temporarily unavailable", "The server cannot store anything now.")
