"""The directory in memory: leases by Trio's clock, routes by project, one counter for all generations.

Owns the tables, and publishes every change on its bus in the same step as it makes it: no task can see one
without the other. Changes are synchronous after the one checkpoint of each call, so a call that was cancelled
has changed nothing. It must never hold what belongs to a relay without a lease.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import trio

from whook.backplane.memory.bus import MemoryBus
from whook.backplane.ports import (
    TOPIC_RELAYS,
    TOPIC_ROUTES,
    LeaseLost,
    RelayGone,
    RelayInfo,
    RelayLease,
    RelaySet,
    Route,
    RouteGone,
    RouteHeld,
    RouteSet,
    encode_event,
)


@dataclass(slots=True)
class _Lease:
    relay: RelayInfo
    expires: float
    """In Trio's time."""
    projects: set[str]
    """Project ids of the routes that hang on it."""


class MemoryDirectory:
    """The Directory of one process."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._leases: dict[str, _Lease] = {}
        self._routes: dict[str, Route] = {}
        self._generation = 0
        self._earlier_deadline = trio.Event()

    async def expire_leases(self) -> None:
        """End every lease when its time has come, so that its events are published without being asked.

        Runs for ever, once; `open_memory_backplane` runs it. Without it leases end at the next call.
        """
        while True:
            self._earlier_deadline = trio.Event()
            next_end = min((lease.expires for lease in self._leases.values()), default=math.inf)
            with trio.move_on_at(next_end):
                await self._earlier_deadline.wait()
            self._expire()

    async def announce(self, relay: RelayInfo, ttl: float) -> bool:
        """Take or renew a lease; return True if it was renewed. Raises ValueError for a ttl of 0 or less."""
        if not ttl > 0:
            raise ValueError(f"a lease must last longer than {ttl} s")
        await self._enter()
        expires = trio.current_time() + ttl
        lease = self._leases.get(relay.id)
        if lease is None:
            self._leases[relay.id] = _Lease(relay, expires, set())
            self._earlier_deadline.set()
            self._publish_relay(relay)
            return False
        if expires < lease.expires:
            self._earlier_deadline.set()
        lease.expires = expires
        if lease.relay != relay:
            lease.relay = relay
            self._publish_relay(relay)
        return True

    async def withdraw(self, relay_id: str) -> None:
        """End a lease and its routes."""
        await self._enter()
        if relay_id in self._leases:
            self._end(relay_id)

    async def relays(self) -> list[RelayInfo]:
        """Return every relay with a lease."""
        await self._enter()
        return [lease.relay for lease in self._leases.values()]

    async def leases(self) -> list[RelayLease]:
        """Return every relay with a lease, and how long that lasts."""
        await self._enter()
        now = trio.current_time()
        return [RelayLease(relay=lease.relay, left=lease.expires - now) for lease in self._leases.values()]

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
        """Make a tunnel the project's holder. Raises RouteHeld and LeaseLost."""
        await self._enter()
        lease = self._lease(relay_id)
        held = self._routes.get(project_id)
        if held is not None and held.instance != instance and not takeover:
            raise RouteHeld(held)
        return self._hold(
            lease,
            Route(
                project_id=project_id,
                project=project,
                relay_id=relay_id,
                tunnel_id=tunnel_id,
                generation=self._next_generation(),
                instance=instance,
                holder=holder,
            ),
        )

    async def reclaim(self, routes: Sequence[Route]) -> list[Route | RouteHeld]:
        """Put lost routes back where the project has no other one. Raises LeaseLost."""
        await self._enter()
        if len({route.relay_id for route in routes}) > 1:
            raise ValueError("a call puts back routes of one relay")
        leases = [self._lease(route.relay_id) for route in routes]
        return [self._reclaim(lease, route) for lease, route in zip(leases, routes, strict=True)]

    def _reclaim(self, lease: _Lease, route: Route) -> Route | RouteHeld:
        held = self._routes.get(route.project_id)
        if held is not None and held.generation > route.generation:
            return RouteHeld(held)
        return self._hold(lease, replace(route, generation=self._next_generation()))

    async def release(self, project_id: str, generation: int) -> bool:
        """Remove a route by its generation; return whether it was there."""
        await self._enter()
        held = self._routes.get(project_id)
        if held is None or held.generation != generation:
            return False
        self._drop(held)
        self._bus.publish_nowait(TOPIC_ROUTES, encode_event(RouteGone(project_id, generation)))
        return True

    async def route(self, project_id: str) -> Route | None:
        """Return a project's route."""
        await self._enter()
        return self._routes.get(project_id)

    async def routes(self) -> list[Route]:
        """Return every route."""
        await self._enter()
        return list(self._routes.values())

    async def _enter(self) -> None:
        """Take the one checkpoint of a call, then end what is over: nobody sees an expired lease."""
        await trio.lowlevel.checkpoint()
        self._expire()

    def _expire(self) -> None:
        now = trio.current_time()
        for relay_id in [id_ for id_, lease in self._leases.items() if lease.expires <= now]:
            self._end(relay_id)

    def _end(self, relay_id: str) -> None:
        for project_id in self._leases.pop(relay_id).projects:
            del self._routes[project_id]
        gone = encode_event(RelayGone(relay_id, self._generation))
        self._bus.publish_nowait(TOPIC_ROUTES, gone)
        self._bus.publish_nowait(TOPIC_RELAYS, gone)

    def _lease(self, relay_id: str) -> _Lease:
        lease = self._leases.get(relay_id)
        if lease is None:
            raise LeaseLost(relay_id)
        return lease

    def _next_generation(self) -> int:
        self._generation += 1
        return self._generation

    def _hold(self, lease: _Lease, route: Route) -> Route:
        held = self._routes.get(route.project_id)
        if held is not None:
            self._drop(held)
        self._routes[route.project_id] = route
        lease.projects.add(route.project_id)
        self._bus.publish_nowait(TOPIC_ROUTES, encode_event(RouteSet(route)))
        return route

    def _drop(self, route: Route) -> None:
        del self._routes[route.project_id]
        self._leases[route.relay_id].projects.discard(route.project_id)

    def _publish_relay(self, relay: RelayInfo) -> None:
        self._bus.publish_nowait(TOPIC_RELAYS, encode_event(RelaySet(relay)))
