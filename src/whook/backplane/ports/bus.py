"""The bus: short messages to every process that listens, at once and with next to no storage.

Directory and stores publish on it, services subscribe. It must never carry what has no other source: a reader
that missed something reloads a snapshot, so everything announced here can also be asked for elsewhere. Where
there is no such place the message is kept for a while, and `Bus.kept` is the snapshot.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

TOPIC_ROUTES = "routes"
"""RouteEvent: what a mirror of the route table needs. Published by the directory."""
TOPIC_RELAYS = "relays"
"""RelayEvent: relays that came, changed or went. Published by the directory."""
TOPIC_KICK = "kick"
"""Kick: tunnels to close because a right was withdrawn. Published by auth."""
TOPIC_PROJECTS = "projects"
"""ProjectSet and ProjectGone. Published by the store of projects, and by auth when a name was given up."""
TOPIC_BACKLOG = "backlog"
"""BacklogSet and BacklogGone: which projects have webhooks waiting. Published by the queue. BacklogState:
published by conductors."""
TOPIC_AUDIT = "audit"
"""Denied: refusals for auth's audit trail. Published by relays, whose logs have them as well."""
TOPIC_ORDERS = "orders"
"""RelayOrder: what an operator wants of a relay. Published by conductors, kept for those who miss it."""


TOPICS = (TOPIC_AUDIT, TOPIC_KICK, TOPIC_ORDERS, TOPIC_PROJECTS, TOPIC_RELAYS, TOPIC_ROUTES)

KEPT = 4096
"""Messages kept for a topic: about 1 MB."""


class Unavailable(Exception):
    """What stands behind a port cannot be reached now; the same call may work later.

    Every asynchronous method of every port may raise it. Callers answer 503 or go on with what they know.
    """


class Recovering(Unavailable):
    """It answers, but does not have all that it had yet: what is missing may still be put back."""


class BusGap(Exception):
    """Messages of this subscription may have been missed.

    The subscription is still good: whatever is published after this was raised will come, or another gap
    will. The reader reloads its snapshot and goes on iterating; if the snapshot is Unavailable now, it is cut
    off, and the gap that ends this is still to come.
    """


class Subscription(Protocol):
    """Messages of the subscribed topics, in the order in which one publisher published them."""

    def __aiter__(self) -> Subscription:
        """Return itself. Iterating again after BusGap goes on with the same subscription."""
        ...

    async def __anext__(self) -> tuple[str, bytes]:
        """Wait for the next message; return its topic and its bytes. Raises BusGap; never ends by itself."""
        ...


class Bus(Protocol):
    """Publishes to every present subscriber of a topic."""

    async def publish(self, topic: str, message: bytes, *, keep: float = 0.0) -> None:
        """Hand ``message`` to the subscribers. Never waits for one of them: a slow one gets a BusGap.

        With ``keep`` it can be read by `kept` for so many seconds. Publishing it again is no second message.
        """
        ...

    async def kept(self, topic: str) -> list[bytes]:
        """Return what was published on a topic to be kept and still is, the earliest end first.

        At most `KEPT` of a topic, then the earliest are dropped; none of those that the bus has lost, as one
        does that is restarted. Whoever has subscribed before misses nothing between the two.
        """
        ...

    def subscribe(self, *topics: str) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe while the context is open. Once it has been entered, nothing later is missed silently.

        One subscription is for one reader. Subscribe to related topics together: order is kept only within a
        subscription.
        """
        ...
