"""Messages on the bus: typed records, each with its topic, as JSON.

Directory, stores and auth encode them, readers decode them by topic. Unknown fields are ignored, so that a
newer publisher may add some; a message that is no event known here is passed over.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

import msgspec
import structlog

from whook.backplane.ports.bus import (
    TOPIC_AUDIT,
    TOPIC_BACKLOG,
    TOPIC_KICK,
    TOPIC_ORDERS,
    TOPIC_PROJECTS,
    TOPIC_RELAYS,
    TOPIC_ROUTES,
)
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


class RelayOrder(_Event, frozen=True, tag="relay-order", kw_only=True):
    """An operator wants a relay to take no new tunnels and send its clients elsewhere, or takes that back.

    Of two orders to one relay the later one stands. One from before the relay's own start is over: a relay
    that was restarted serves again.
    """

    relay_id: str
    drain: bool
    at: float
    """Unix seconds."""
    by: str = ""
    """Who gave it, for the log."""


CLOCKS_DIFFER = 2.0
"""Seconds by which the clocks of two auth processes may differ, one that withdraws and one that mints."""


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
    tunnel_id: str = ""
    """One tunnel alone, as an operator does; its client may come again."""
    reason: str
    """For the person at the tunnel: one clause without a full stop."""
    at: float = 0.0
    """When the right was withdrawn, in Unix seconds; 0 stands for now."""
    until: float = 0.0
    """When the last tunnel token that was minted before it ends, in Unix seconds."""

    def __post_init__(self) -> None:
        # A reader that does not know `tunnel_id` yet finds nothing here, and passes the Kick over.
        if not (self.project_id or self.project or self.user_id or self.token_id or self.tunnel_id):
            raise ValueError("a Kick must name a project, a user, a token or a tunnel")

    def matches(
        self, *, project_id: str, project: str = "", user_id: str, token_id: str, tunnel_id: str = ""
    ) -> bool:
        """Return whether a tunnel with these properties is meant."""
        return (
            self.project_id in ("", project_id)
            and self.project in ("", project)
            and self.user_id in ("", user_id)
            and self.token_id in ("", token_id)
            and self.tunnel_id in ("", tunnel_id)
        )

    def covers(self, issued_at: float) -> bool:
        """Return whether a tunnel token minted then (Unix seconds) may be older than the withdrawal."""
        return not self.at or issued_at <= self.at + CLOCKS_DIFFER


RouteEvent = RouteSet | RouteGone | RelayGone
RelayEvent = RelaySet | RelayGone
ProjectEvent = ProjectSet | ProjectGone
BacklogEvent = BacklogSet | BacklogGone | BacklogState
Event = RouteEvent | RelayEvent | ProjectEvent | BacklogEvent | Denied | Kick | RelayOrder

_encoder = msgspec.json.Encoder()
_log = structlog.get_logger("whook.backplane")

E = TypeVar("E")
ignored: Counter[str] = Counter()
"""Messages that this process has passed over, by topic. `compose` publishes it."""


def encode_event(event: Event) -> bytes:
    """Return the message for ``event``."""
    return _encoder.encode(event)


class Decoder(Generic[E]):
    """Reads the messages of one topic, and passes over what it does not know.

    While a cluster is being upgraded, newer processes publish kinds of events that older ones have never
    heard of. Whoever ended over one would take its tunnels along.
    """

    def __init__(self, topic: str, kind: Any) -> None:
        """``kind`` is the type of event or a union of them."""
        self._topic = topic
        self._decoder: msgspec.json.Decoder[E] = msgspec.json.Decoder(kind)

    def __call__(self, message: bytes) -> E | None:
        """Return the event, or None for what is none known here: counted, and logged the first time."""
        try:
            return self._decoder.decode(message)
        except msgspec.MsgspecError as error:
            if not ignored[self._topic]:
                _log.warning("a message on the bus is ignored", topic=self._topic, error=str(error))
            ignored[self._topic] += 1
            return None


decode_route_event: Decoder[RouteEvent] = Decoder(TOPIC_ROUTES, RouteEvent)
decode_relay_event: Decoder[RelayEvent] = Decoder(TOPIC_RELAYS, RelayEvent)
decode_project_event: Decoder[ProjectEvent] = Decoder(TOPIC_PROJECTS, ProjectEvent)
decode_backlog_event: Decoder[BacklogEvent] = Decoder(TOPIC_BACKLOG, BacklogEvent)
decode_denied: Decoder[Denied] = Decoder(TOPIC_AUDIT, Denied)
decode_kick: Decoder[Kick] = Decoder(TOPIC_KICK, Kick)
decode_order: Decoder[RelayOrder] = Decoder(TOPIC_ORDERS, RelayOrder)
