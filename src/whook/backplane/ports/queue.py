"""The queue: webhooks that were acknowledged and wait for their delivery, durable and in order.

The conductor's ingress appends, its dispatcher reads and settles; nobody else comes here. The promise of the
whole product hangs on `append`: when it has returned, the event survives the death of every process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from whook.backplane.ports.received import Origin, StoredEvent

Limit = Literal["project-count", "project-bytes", "project-age", "total-count", "total-bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How much may wait. An event that would go beyond any of these is refused; no older one is dropped.

    Of several that are reached the first one in this order is told.
    """

    project_count: int
    project_bytes: int
    """Bytes of the encoded events, with their bodies wherever those are kept."""
    project_age: float
    """Seconds: while the first event of the project waits for longer, no new one is taken."""
    total_count: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What of one project waits."""

    count: int
    bytes: int
    """As counted for the limits."""
    oldest_at: float
    """Seconds since the epoch since when the first in order waits: when it was received or, for a replay,
    asked for. 0.0 when nothing waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """The right to deliver a project's backlog, held by one owner at a time."""

    project_id: str
    owner: str
    fence: int
    """Greater than that of every earlier ownership of the project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """One event that waits."""

    position: str
    """Names this place in the queue, and never another one; an event can be queued more than once."""
    event: StoredEvent
    origin: Origin
    """``buffered`` or ``replay``."""
    attempt: int
    """The number of the delivery that is due. Counted durably when the event is read, so it never repeats."""
    failures: int
    """Deliveries from the queue that failed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What `Queue.read` found."""

    entries: list[Queued]
    next_due: float | None
    """Seconds since the epoch when the next deferred event is due; None when none is deferred."""


class QueueFull(Exception):
    """A limit is reached; the event was not stored."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(f"the queue is full: {limit}")
        self.limit: Limit = limit


class NotOwner(Exception):
    """The ownership has ended, or another one has begun. Whatever was asked for was not done."""

    def __init__(self, project_id: str) -> None:
        super().__init__(f"the backlog of {project_id} is not ours any more")
        self.project_id = project_id


class Queue(Protocol):
    """Durable backlogs by project. All raise Unavailable when the queue does not answer.

    Each change of whether a project has a backlog is published on TOPIC_BACKLOG by the queue, never by its
    callers: BacklogSet when the first event of a project comes to wait, BacklogGone when the last one is
    settled. A project *holds* as long as anything of it waits, deferred or not.
    """

    async def append(
        self, event: StoredEvent, limits: QueueLimits, *, origin: Origin = "buffered", attempts: int = 0
    ) -> None:
        """Store ``event`` at the end of its project's backlog; durable when this returns.

        ``attempts`` are the deliveries that were made before. Raises QueueFull, and Unavailable also from a
        store that answers but could lose what it is given. After Unavailable, or a cancellation, it may have
        been stored or not: the caller acknowledges nothing.
        """
        ...

    async def backlog(self, project_id: str) -> Backlog:
        """Return what of the project waits."""
        ...

    async def backlogs(self) -> dict[str, Backlog]:
        """Return every project of which something waits, by its id."""
        ...

    async def version(self) -> int:
        """Return a number that rises with every BacklogSet and BacklogGone, which carry it.

        Whoever asks for it before `backlogs` can pass over the events up to it. It also rises when a queue
        that is in use loses its data.
        """
        ...

    async def attend(self, owner: str, ttl: float) -> bool:
        """Take or renew the lease of an owner for ``ttl`` seconds; all that it owns hangs on it.

        Returns True if it was renewed, False if it is a new one: whatever the owner owned before is lost.
        Raises ValueError for a ttl that is not finite and greater than 0.
        """
        ...

    async def leave(self, owner: str) -> None:
        """End the lease of an owner and with it every ownership."""
        ...

    async def acquire(self, project_id: str, owner: str) -> Ownership | None:
        """Return the ownership of a project's backlog, or None while another owner with a lease has it.

        What was given out before and not settled is given out again, in order; what is deferred stays so.
        Raises NotOwner if ``owner`` has no lease. If it owns the project already, that ownership ends and
        this one takes its place: so after an answer that was lost, acquire anew.
        """
        ...

    async def release(self, ownership: Ownership) -> None:
        """Give an ownership up. Does nothing if it has ended."""
        ...

    async def read(self, ownership: Ownership, *, limit: int, max_bytes: int, in_order: bool) -> Batch:
        """Return the next events that are due and were not given out under this ownership, in order.

        At most ``limit``, whose bodies have ``max_bytes`` at most, except that the first one always fits.
        With ``in_order`` a deferred event holds back all behind it, and ``next_due`` is when it is due;
        otherwise when the first of all is. An event that is due again comes before those behind it.

        Raises NotOwner; Unavailable also while the first event was sealed with a key that is not configured.
        After Unavailable, or a cancellation, events may have been given out that nobody has got: they come
        under the next ownership.
        """
        ...

    async def settle(self, ownership: Ownership, positions: list[str]) -> Backlog:
        """Remove events for good: they were answered, or are dead and recorded as such. Returns what is left.

        Unknown positions, and those of other projects, are passed over: it can be repeated. Raises NotOwner.
        """
        ...

    async def defer(self, ownership: Ownership, position: str, *, until: float, failed: bool) -> None:
        """Give an event back, not to be read before ``until`` (seconds since the epoch).

        It comes back in its place. ``failed`` counts a failure; a delivery that was only broken off (the
        tunnel went away) is none. Does nothing to one that is not given out under this ownership, so it can
        be repeated. Raises NotOwner.
        """
        ...

    async def remember(self, key: str, seconds: float, *, settled: bool) -> Literal["new", "running", "done"]:
        """Note a delivery id for deduplication, for so long, and return what was known of it before.

        ``settled`` False claims it for a delivery that is beginning ("running"), and changes nothing where it
        is known; True says that it has been taken ("done"), whatever was known.
        """
        ...

    async def forget(self, key: str) -> None:
        """Take back a claim whose delivery failed. What has been taken stays known."""
        ...


class Blobs(Protocol):
    """Bodies that are too large for the queue or a row of the history, by event id."""

    async def put(self, event_id: str, body: bytes) -> None:
        """Store a body; durable when this returns. Raises Unavailable."""
        ...

    async def get(self, event_id: str) -> bytes | None:
        """Return a body, or None where there is none (any more). Raises Unavailable."""
        ...

    async def delete(self, event_ids: list[str]) -> None:
        """Remove bodies. Raises Unavailable."""
        ...
