"""The ports: Protocols and plain records through which services reach what they share.

Every service imports from here and from nowhere else in the backplane; the composition root hands it the
twins. Owns no state, does no I/O, and imports nothing heavier than msgspec.
"""

from whook.backplane.ports.auth import (
    SCOPES,
    Auth,
    AuthDenied,
    AuthStore,
    DenialReason,
    Principal,
    StoredKey,
    StoredToken,
    TunnelToken,
    User,
)
from whook.backplane.ports.bus import (
    TOPIC_KICK,
    TOPIC_PROJECTS,
    TOPIC_RELAYS,
    TOPIC_ROUTES,
    Bus,
    BusGap,
    Subscription,
    Unavailable,
)
from whook.backplane.ports.directory import (
    Backplane,
    Directory,
    LeaseLost,
    RelayInfo,
    Route,
    RouteHeld,
)
from whook.backplane.ports.events import (
    Kick,
    ProjectSet,
    RelayEvent,
    RelayGone,
    RelaySet,
    RouteEvent,
    RouteGone,
    RouteSet,
    decode_kick,
    decode_project_event,
    decode_relay_event,
    decode_route_event,
    encode_event,
)
from whook.backplane.ports.projects import Project, Projects

__all__ = [
    "SCOPES",
    "TOPIC_KICK",
    "TOPIC_PROJECTS",
    "TOPIC_RELAYS",
    "TOPIC_ROUTES",
    "Auth",
    "AuthDenied",
    "AuthStore",
    "Backplane",
    "Bus",
    "BusGap",
    "DenialReason",
    "Directory",
    "Kick",
    "LeaseLost",
    "Principal",
    "Project",
    "ProjectSet",
    "Projects",
    "RelayEvent",
    "RelayGone",
    "RelayInfo",
    "RelaySet",
    "Route",
    "RouteEvent",
    "RouteGone",
    "RouteHeld",
    "RouteSet",
    "StoredKey",
    "StoredToken",
    "Subscription",
    "TunnelToken",
    "Unavailable",
    "User",
    "decode_kick",
    "decode_project_event",
    "decode_relay_event",
    "decode_route_event",
    "encode_event",
]
