"""The history: every event with its deliveries, for people to look at and to replay.

Written by the conductor's recorder in batches, off the way of a webhook, and by its dispatcher when an event
is dead; read by the events API. It is no part of the promise about acknowledged events, which is the queue's:
but for dead letters, which leave the queue only when they are here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


class EncodedRecord(msgspec.Struct, frozen=True, gc=False):
    """A `Record` as bytes, of an event that is done with after its one live delivery, or without any.

    It takes the place of some fifty objects for as long as it waits to be stored, and whoever stores it need
    not look into it. The event's body, if it was kept at all, is in it.
    """

    event_id: str
    project_id: str
    received_at: float
    refused: bool
    """The state is "refused", or else "answered"."""
    failed: bool
    """As in `EventQuery.failed`."""
    data: bytes
    """MessagePack of the record."""

    def decode(self) -> Record:
        """Return the record."""
        return _decode_record(self.data)


News = Record | EncodedRecord

_encode_record = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(Record).decode
_ERROR = 400


def encode_record(record: Record) -> EncodedRecord:
    """Return the record as bytes. It has its event, and its delivery, if it has one, is the live one."""
    event, delivery = record.event, record.delivery
    assert event is not None
    return EncodedRecord(
        record.event_id,
        record.project_id,
        event.received_at,
        record.state == "refused",
        has_failed(delivery),
        _encode_record(record),
    )


def has_failed(delivery: Delivery | None) -> bool:
    """Tell whether a delivery had no response, or one of 400 and above."""
    if delivery is None:
        return False
    return delivery.problem != "" or delivery.status == 0 or delivery.status >= _ERROR


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
class EventPlace:
    """Which project an event is of."""

    project_id: str
    project: str
    """Its name then. Another project may have it now."""


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


class Found(list[EventSummary]):
    """What `History.find` found, in the order asked for."""

    scanned_to: str = ""
    """Set when the search for a text was given up because of what it cost: the last event that was looked
    into. Asking again with `EventQuery.after` set to it goes on from there. Empty when the search is done."""


@dataclass(frozen=True, slots=True)
class HistorySize:
    """What the history takes."""

    events: int
    bytes: int
    """Of events, deliveries and bodies as they are stored; indexes are estimated."""


class History(Protocol):
    """The store of events. All raise Unavailable when it does not answer."""

    async def record(self, records: Sequence[News]) -> None:
        """Store news; durable when this returns, and repeated or out of order without harm.

        A delivery is known by event, attempt and `began_at`: whoever reports one twice reports the same. A
        body longer than 262,144 bytes is stored apart, as `Blobs` would.
        """
        ...

    async def find(self, project_id: str, query: EventQuery) -> Found:
        """Return matching events, the newest first unless asked otherwise."""
        ...

    async def follow(self, project_id: str, after: int, limit: int) -> list[EventSummary]:
        """Return events whose sequence is greater than ``after``, in that order. With -1: the newest one.

        Whatever is recorded later than what was returned has a greater sequence.
        """
        ...

    async def get(self, project_id: str, event_id: str) -> EventDetail | None:
        """Return one event, its body included where it was kept; None if this project has none of that id.

        A body of None with a `body_size` says that it was not kept.
        """
        ...

    async def locate(self, event_id: str) -> EventPlace | None:
        """Return the project that an event is of; None if it is not in the history.

        Whoever asks still has to find out whether that project is theirs.
        """
        ...

    async def dead_letters(self) -> dict[str, int]:
        """Return how many events are dead, by project id; projects without any are left out."""
        ...

    async def size(self) -> HistorySize:
        """Return what the whole history takes."""
        ...

    async def claim_pruning(self, every: float) -> bool:
        """Return True to one caller in ``every`` seconds, of all that share the history: it is to prune."""
        ...

    async def prune(
        self, *, before: float, keep_bytes: int, dead_before: float, waiting: Collection[str] = ()
    ) -> int:
        """Delete events received before, and the oldest beyond ``keep_bytes`` in all; return how many.

        Events that still wait are left, and dead ones received since ``dead_before``: size never costs one
        that was acknowledged and not answered. ``waiting`` are ids of projects of which something is in the
        queue: their events whose bodies are stored apart are left too, since a replay may need one. When
        nothing waits at all, bodies that have no event (any more) are deleted as well. It is done in small
        transactions; cancelled, it has done a part.
        """
        ...
