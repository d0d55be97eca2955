"""The bodies of the events API: what is asked and what is answered, as types from which its document is made.

Used by `events_api` only. Holds no logic beyond how bytes become JSON: names and values of fields as text of
one character for each byte (ISO 8859-1, from which the bytes can be had back), bodies as text where they are
UTF-8 and else in base64.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from whook.backplane.ports import (
    Backlog,
    Delivery,
    EventDetail,
    EventSummary,
    Headers,
    Origin,
    State,
    StoredEvent,
)
from whook_conductor.replays import MAX_EVENTS, Reason, Replayed, Stopped

INLINE = 262_144
"""Longest body in bytes that is part of an answer in JSON: about what is stored beside an event."""

EventId = Annotated[str, Field(pattern=r"^evt_[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
Grep = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
Fields = list[tuple[str, str]]


class EventAnswer(BaseModel):
    """One line of a list of events."""

    id: str
    sequence: int = Field(description="Rises in the order in which events were first recorded.")
    project: str
    received_at: datetime
    method: str
    target: str = Field(description="As the sender wrote it.")
    peer: str = Field(description="Address of whoever was connected: the sender, or a load balancer.")
    body_size: int = Field(description="Bytes.")
    state: State
    deliveries: int = Field(description="Attempts to hand it over.")
    last_status: int | None = Field(description="Of the last response; null when there was none.")
    last_problem: str | None = Field(description="Why there was none, as the last part of a problem's type.")
    last_duration: float | None = Field(description="Of the last delivery, in seconds.")

    @classmethod
    def of(cls, summary: EventSummary) -> Self:
        """Return the answer for an event."""
        return cls(
            id=summary.id,
            sequence=summary.sequence,
            project=summary.project,
            received_at=_time(summary.received_at),
            method=summary.method,
            target=summary.target,
            peer=summary.peer,
            body_size=summary.body_size,
            state=summary.state,
            deliveries=summary.deliveries,
            last_status=summary.last_status or None,
            last_problem=summary.last_problem or None,
            last_duration=summary.last_duration if summary.deliveries else None,
        )


class EventList(BaseModel):
    """Events in the order asked for."""

    events: list[EventAnswer]
    next: str | None = Field(description="Give it as `after` for what follows; null at the end.")


class FollowAnswer(BaseModel):
    """Events in the order in which they were recorded."""

    events: list[EventAnswer]
    next: int = Field(description="Give it as `after` the next time.")


class Content(BaseModel):
    """A body."""

    size: int = Field(description="Bytes.")
    encoding: Literal["utf-8", "base64"] | None = Field(description="How `content` is written.")
    content: str | None = Field(
        description="Null where it was not kept, or is longer than 256 KiB: then ask for the event's `/body`."
    )


class Received(BaseModel):
    """A request as it was received."""

    version: Literal["1.1", "1.0"]
    scheme: str
    headers: Fields = Field(description="As sent, one character for each byte (ISO 8859-1).")
    body: Content
    trailers: Fields


class ResponseAnswer(BaseModel):
    """What the local server answered."""

    status: int
    reason: str
    headers: Fields
    body: Content
    trailers: Fields


class DeliveryAnswer(BaseModel):
    """One attempt to hand an event over. Durations are in seconds."""

    attempt: int
    origin: Origin = Field(description="live: while the sender waited. buffered, replay: out of the queue.")
    began_at: datetime
    to_head: float | None = Field(description="To the head of the response; null when there was none.")
    duration: float
    status: int | None
    problem: str | None
    response: ResponseAnswer | None


class EventDetailAnswer(EventAnswer):
    """An event and all that was tried."""

    request: Received
    history: list[DeliveryAnswer] = Field(description="Its deliveries, the first one first.")


class ReplayWanted(BaseModel):
    """Deliver again, please: either `events`, or what the other fields select."""

    model_config = ConfigDict(extra="forbid")

    events: list[EventId] | None = Field(
        None, min_length=1, max_length=MAX_EVENTS, description="In the order in which to deliver them."
    )
    since: AwareDatetime | None = Field(None, description="Received at or after.")
    until: AwareDatetime | None = Field(None, description="Received before.")
    state: list[State] = Field(default_factory=list, max_length=4)
    failed: bool = False
    grep: Grep = ""
    after: EventId | None = Field(None, description="`next` of the answer before, to go on.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        chosen = (self.since, self.until, self.state, self.failed, self.grep)
        if self.events is not None and (any(chosen) or self.after):
            raise ValueError("give either events or a range")
        if self.events is None and not any(chosen):
            raise ValueError("give events, or at least one of since, until, state, failed and grep")
        return self


class Skipped(BaseModel):
    """An event that is not delivered again."""

    event: str
    reason: Reason


class ReplayAnswer(BaseModel):
    """What was queued."""

    queued: list[str] = Field(description="Events in the order in which they will be delivered.")
    skipped: list[Skipped]
    stopped: Stopped | None = Field(
        description="Why it ended before all were queued; what is neither queued nor skipped was not touched."
    )
    next: str | None = Field(description="Of a range: give it as `after` to go on; null when it is done.")

    @classmethod
    def of(cls, done: Replayed) -> Self:
        """Return the answer for a request."""
        skipped = [Skipped(event=event, reason=reason) for event, reason in done.skipped]
        return cls(queued=done.queued, skipped=skipped, stopped=done.stopped, next=done.next)


class BacklogAnswer(BaseModel):
    """What of a project waits to be delivered."""

    count: int
    bytes: int
    oldest_at: datetime | None

    @classmethod
    def of(cls, backlog: Backlog) -> Self:
        """Return the answer for a backlog."""
        oldest = _time(backlog.oldest_at) if backlog.count else None
        return cls(count=backlog.count, bytes=backlog.bytes, oldest_at=oldest)


def detail_answer(detail: EventDetail) -> EventDetailAnswer:
    """Return the answer for an event with its deliveries."""
    summary = EventAnswer.of(detail.summary)
    return EventDetailAnswer(
        **summary.model_dump(),
        request=_received(detail.event),
        history=[_delivery(one) for one in detail.deliveries],
    )


def _received(event: StoredEvent) -> Received:
    return Received(
        version="1.0" if event.version == b"1.0" else "1.1",
        scheme=event.scheme,
        headers=_fields(event.headers),
        body=_content(event.body, event.body_size),
        trailers=_fields(event.trailers),
    )


def _delivery(one: Delivery) -> DeliveryAnswer:
    response = None
    if (stored := one.response) is not None:
        response = ResponseAnswer(
            status=stored.status,
            reason=stored.reason.decode("latin-1"),
            headers=_fields(stored.headers),
            body=_content(stored.body, stored.body_size),
            trailers=_fields(stored.trailers),
        )
    return DeliveryAnswer(
        attempt=one.attempt,
        origin=one.origin,
        began_at=_time(one.began_at),
        to_head=one.to_head if one.to_head >= 0 else None,
        duration=one.duration,
        status=one.status or None,
        problem=one.problem or None,
        response=response,
    )


def _content(body: bytes | None, size: int) -> Content:
    if not size:
        return Content(size=0, encoding="utf-8", content="")
    if body is None or len(body) > INLINE:
        return Content(size=size, encoding=None, content=None)
    try:
        return Content(size=size, encoding="utf-8", content=body.decode("utf-8"))
    except UnicodeDecodeError:
        return Content(size=size, encoding="base64", content=base64.b64encode(body).decode("ascii"))


def _fields(headers: Headers) -> Fields:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
