"""The history: every event with its deliveries, for people to look at and to replay.

Written by the conductor's recorder in batches, off the way of a webhook, and by its dispatcher when an event
is dead; read by the events API. It is no part of the promise about acknowledged events, which is the queue's:
but for dead letters, which leave the queue only when they are here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from whook.backplane.ports.received import Delivery, State, StoredEvent


class Record(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """News of one event: the event itself where it is not recorded yet, and a delivery if there was one."""

    event_id: str
    project_id: str
    state: State
    at: float
    """Seconds since the epoch; of two states the later one stands."""
    event: StoredEvent | None = None
    delivery: Delivery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSummary:
    """One line of a list of events."""

    id: str
    sequence: int
    """Rises in the order in which events were first recorded: the cursor of whoever follows."""
    project_id: str
    project: str
    received_at: float
    method: str
    target: str
    peer: str
    body_size: int
    state: State
    deliveries: int
    last_status: int
    """Of the last delivery's response; 0 when there was none."""
    last_problem: str
    last_duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDetail:
    """An event and all that was tried."""

    summary: EventSummary
    event: StoredEvent
    deliveries: list[Delivery]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events of a project are wanted. All conditions hold together."""

    since: float | None = None
    """Received at or after, in seconds since the epoch."""
    until: float | None = None
    """Received before."""
    states: tuple[State, ...] = ()
    failed: bool = False
    """Only those whose last delivery had no response, or one of 400 and above, or that are dead."""
    grep: str = ""
    """Text that occurs in the method, the target, a header or the body; ASCII letters in any case."""
    after: str = ""
    """Cursor: an event id; what comes after it in the order asked for."""
    oldest_first: bool = False
    limit: int = field(default=50)


class History(Protocol):
    """The store of events. All raise Unavailable when it does not answer."""

    async def record(self, records: list[Record]) -> None:
        """Store news; durable when this returns, and repeated without harm."""
        ...

    async def find(self, project_id: str, query: EventQuery) -> list[EventSummary]:
        """Return matching events, the newest first unless asked otherwise."""
        ...

    async def follow(self, project_id: str, after: int, limit: int) -> list[EventSummary]:
        """Return events whose sequence is greater than ``after``, in that order. With -1: the newest one."""
        ...

    async def get(self, project_id: str, event_id: str) -> EventDetail | None:
        """Return one event, its body included where it was kept; None if this project has none of that id."""
        ...

    async def prune(self, *, before: float, keep_bytes: int, dead_before: float) -> int:
        """Delete events received before, and the oldest beyond ``keep_bytes`` in all; return how many.

        Events that still wait are left, and dead ones received since ``dead_before``: size never costs one
        that was acknowledged and not answered.
        """
        ...
