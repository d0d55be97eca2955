"""Messages on the bus: typed records, each with its topic, as JSON.

Directory, stores and auth encode them, readers decode them by topic. Unknown fields are ignored, so that a
newer publisher may add some; a message that is no event of its topic raises msgspec.MsgspecError.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from whook.backplane.ports.directory import RelayInfo, Route
from whook.backplane.ports.projects import Project


class _Event(msgspec.Struct, frozen=True, tag_field="event"):
    """What all events have in common: a tag by which they are told apart."""


class RouteSet(_Event, frozen=True, tag="route-set"):
    """The project has this route; any of an earlier generation is replaced."""

    route: Route


class RouteGone(_Event, frozen=True, tag="route-gone"):
    """The project's route of this generation is gone, and any earlier one. A later one stands."""

    project_id: str
    generation: int


class RelayGone(_Event, frozen=True, tag="relay-gone"):
    """The relay's lease ended, and with it every route of that relay up to this generation.

    Published on TOPIC_ROUTES and on TOPIC_RELAYS, instead of one RouteGone for each of its routes: a relay
    may hold tens of thousands.
    """

    relay_id: str
    generation: int


class RelaySet(_Event, frozen=True, tag="relay-set"):
    """The relay is there, or says something new about itself. A renewal without news is not published."""

    relay: RelayInfo


class ProjectSet(_Event, frozen=True, tag="project-set"):
    """The project was made."""

    project: Project


class ProjectGone(_Event, frozen=True, tag="project-gone"):
    """The name was given up: a project of that name made before this time is no more."""

    project: str
    deleted_at: datetime


class BacklogSet(_Event, frozen=True, tag="backlog-set"):
    """Something of the project has come to wait in the queue."""

    project_id: str
    project: str
    version: int
    """Of two events on one project the greater version stands."""


class BacklogGone(_Event, frozen=True, tag="backlog-gone"):
    """Nothing of the project waits any more."""

    project_id: str
    version: int


class BacklogState(_Event, frozen=True, tag="backlog-state"):
    """How it stands with what waits of a project, as its owner sees it.

    ``holding``: new webhooks queue behind it. ``ending``: all of it is in the owner's hands, so that a new
    webhook better waits for its end than to prolong it. ``resting``: all of it has failed before and waits
    for its retry.

    Published by conductors, not by the queue: by the owner of the backlog, again and again while it is so,
    and by whoever appends to one that rests. What is not repeated is forgotten, and then it holds.
    """

    project_id: str
    state: Literal["holding", "ending", "resting"]


class Denied(_Event, frozen=True, tag="denied", kw_only=True):
    """A relay refused somebody."""

    relay_id: str
    address: str
    reason: str
    suppressed: int = 0
    """Refusals since the last one that was published: they are bounded in rate."""


class Kick(_Event, frozen=True, tag="kick", kw_only=True):
    """Close every tunnel that matches all of the fields that are not empty.

    Raises ValueError when all are empty: that would be every tunnel.
    """

    project_id: str = ""
    project: str = ""
    """By its name, for auth, which does not know ids."""
    user_id: str = ""
    token_id: str = ""
    """The access token from which the tunnel's token was minted."""
    reason: str
    """For the person at the tunnel: one clause without a full stop."""

    def __post_init__(self) -> None:
        if not (self.project_id or self.project or self.user_id or self.token_id):
            raise ValueError("a Kick must name a project, a user or a token")

    def matches(self, *, project_id: str, project: str = "", user_id: str, token_id: str) -> bool:
        """Return whether a tunnel with these properties is meant."""
        return (
            self.project_id in ("", project_id)
            and self.project in ("", project)
            and self.user_id in ("", user_id)
            and self.token_id in ("", token_id)
        )


RouteEvent = RouteSet | RouteGone | RelayGone
RelayEvent = RelaySet | RelayGone
ProjectEvent = ProjectSet | ProjectGone
BacklogEvent = BacklogSet | BacklogGone | BacklogState
Event = RouteEvent | RelayEvent | ProjectEvent | BacklogEvent | Denied | Kick

_encoder = msgspec.json.Encoder()
_route_events: msgspec.json.Decoder[RouteEvent] = msgspec.json.Decoder(RouteEvent)
_relay_events: msgspec.json.Decoder[RelayEvent] = msgspec.json.Decoder(RelayEvent)
_project_events: msgspec.json.Decoder[ProjectEvent] = msgspec.json.Decoder(ProjectEvent)
_backlog_events: msgspec.json.Decoder[BacklogEvent] = msgspec.json.Decoder(BacklogEvent)
_denials = msgspec.json.Decoder(Denied)
_kicks = msgspec.json.Decoder(Kick)


def encode_event(event: Event) -> bytes:
    """Return the message for ``event``."""
    return _encoder.encode(event)


def decode_route_event(message: bytes) -> RouteEvent:
    """Return the event in a message of TOPIC_ROUTES. Raises msgspec.MsgspecError."""
    return _route_events.decode(message)


def decode_relay_event(message: bytes) -> RelayEvent:
    """Return the event in a message of TOPIC_RELAYS. Raises msgspec.MsgspecError."""
    return _relay_events.decode(message)


def decode_backlog_event(message: bytes) -> BacklogEvent:
    """Return the event in a message of TOPIC_BACKLOG. Raises msgspec.MsgspecError."""
    return _backlog_events.decode(message)


def decode_denied(message: bytes) -> Denied:
    """Return the event in a message of TOPIC_AUDIT. Raises msgspec.MsgspecError."""
    return _denials.decode(message)


def decode_project_event(message: bytes) -> ProjectEvent:
    """Return the event in a message of TOPIC_PROJECTS. Raises msgspec.MsgspecError."""
    return _project_events.decode(message)


def decode_kick(message: bytes) -> Kick:
    """Return the event in a message of TOPIC_KICK. Raises msgspec.MsgspecError."""
    return _kicks.decode(message)
