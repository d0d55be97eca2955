"""The directory: which relays live, and which relay holds the tunnel of a project.

Relays write it, conductors read it. Everything in it is leased: it vanishes with the relay that wrote it. It
must never be asked on a webhook's way; conductors keep a mirror, see Directory.routes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from whook.backplane.ports.bus import Bus


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayInfo:
    """A relay as it announces itself."""

    id: str
    tunnel_url: str
    """Where clients open their tunnels: ``ws://`` or ``wss://``."""
    trunk_url: str
    """Where conductors open their trunks: ``tcp://host:port``."""
    capacity: int
    """Tunnels it will hold at most."""
    load: int
    """Tunnels it holds now."""
    version: str
    draining: bool = False
    """Takes no new tunnels, still serves those it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLease:
    """A relay with its lease."""

    relay: RelayInfo
    left: float
    """Seconds until it ends, unless it is renewed before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One project's way: the tunnel that answers its webhooks, and the relay that holds it."""

    project_id: str
    project: str
    """The project's name."""
    relay_id: str
    tunnel_id: str
    generation: int
    """Fencing number: greater than any that the directory gave out before, for whatever project."""
    instance: str
    """Names the client process: the same one may replace its own tunnel."""
    holder: str
    """Who holds it, for people: user and machine."""


class RouteHeld(Exception):
    """Another tunnel holds the project: ``route`` says whose."""

    def __init__(self, route: Route) -> None:
        super().__init__(f"project {route.project} is held by {route.holder}")
        self.route = route


class LeaseLost(Exception):
    """The relay has no lease, hence can hold no route. It must announce itself first."""

    def __init__(self, relay_id: str) -> None:
        super().__init__(f"relay {relay_id} has no lease")
        self.relay_id = relay_id


class Directory(Protocol):
    """Leases and routes. Every change is published on the bus that the directory was built with.

    Callers never publish these events themselves. Events come in the order of the changes, and a call that
    returned has published. A call that was cancelled may have taken effect or not.
    """

    async def announce(self, relay: RelayInfo, ttl: float) -> bool:
        """Take or renew the lease of ``relay`` for ``ttl`` seconds from now, and store what it says.

        Returns True if its lease was renewed, hence its routes still stand. Returns False if the lease is a
        new one: whatever routes the relay held are gone, and it reclaims those whose tunnels are still open.
        """
        ...

    async def withdraw(self, relay_id: str) -> None:
        """Give up the lease and all routes that hang on it. Does nothing if there is none."""
        ...

    async def relays(self) -> list[RelayInfo]:
        """Return every relay with a lease."""
        ...

    async def leases(self) -> list[RelayLease]:
        """Return every relay with a lease, and how long that lasts: for operators to look at."""
        ...

    async def claim(
        self,
        *,
        project_id: str,
        project: str,
        relay_id: str,
        tunnel_id: str,
        instance: str,
        holder: str,
        takeover: bool = False,
    ) -> Route:
        """Make this tunnel the only holder of the project and return its route.

        A route of the same ``instance`` is the client's own ghost and is replaced. Another's is replaced only
        with ``takeover``. The earlier relay learns of it by the RouteSet event and closes the earlier tunnel
        (GOAWAY, replaced). Raises RouteHeld, and LeaseLost if the relay is not announced.
        """
        ...

    async def reclaim(self, routes: Sequence[Route]) -> list[Route | RouteHeld]:
        """Put back routes of one relay that were lost with its lease, for tunnels that are still open.

        Returns for each, in order, the route with a new generation, or who holds the project. Unlike `claim`
        it yields to every other holder, the same instance included: that one is newer. Raises LeaseLost, and
        then has put back none. It keeps others waiting, so a hundred are enough for one call.
        """
        ...

    async def release(self, project_id: str, generation: int) -> bool:
        """Remove the project's route if it still has this generation; return whether it was removed."""
        ...

    async def route(self, project_id: str) -> Route | None:
        """Return the project's route."""
        ...

    async def routes(self) -> list[Route]:
        """Return every route: the snapshot under a mirror.

        A mirror subscribes to TOPIC_ROUTES, then loads the snapshot, then applies events: RouteSet unless it
        has a greater generation for the project; RouteGone and RelayGone to routes of their generation or an
        earlier one. At BusGap it loads the snapshot again.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backplane:
    """What an open backplane hands to the services."""

    directory: Directory
    bus: Bus
