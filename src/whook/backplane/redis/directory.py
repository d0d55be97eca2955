"""The directory on Redis: every call is one script, so one step that publishes what it changes.

Called by the services of this process through the port. Owns what this process knows about the Redis it talks
to: the highest generation it has seen, its clock, and whether it has lost its data and relays are still
putting it back. It must never say that nobody holds a project while that is so. The layout is described in
``lua/prelude.lua``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import trio

from whook.backplane.ports import (
    LeaseLost,
    Recovering,
    RelayInfo,
    RelayLease,
    Route,
    RouteHeld,
    Unavailable,
)
from whook.backplane.redis import scripts
from whook.backplane.redis.bridge import Argument, Bridge
from whook.backplane.redis.clock import RedisClock
from whook.backplane.redis.scripts import Script
from whook.chassis.logs import get_logger

SETTLE_SECONDS = 8.0
"""How long after Redis has lost its data a process waits before it takes what it reads for all there is: a
relay's heartbeat of 5 s and time to put its routes back."""

SWEEP_SECONDS = 1.0
"""Between two looks of this process for leases that are over, as the mean of a random pause. The script
counts on one within 4 s."""

SWEEP_BATCH = 250
"""Routes of ended leases removed by one script: about 2 ms in which Redis does nothing else."""

SNAPSHOT_BATCH = 250
"""Routes read by one script: 75 KB, under 1 ms of Redis's time. Larger ones take longer in all."""

_encoder = msgspec.json.Encoder()
_stored_route = msgspec.json.Decoder(tuple[int, Route])
_stored_routes = msgspec.json.Decoder(list[tuple[int, Route]])
_stored_relay = msgspec.json.Decoder(tuple[int, RelayInfo])
_stored_relays = msgspec.json.Decoder(list[tuple[int, RelayInfo]])

_log = get_logger("whook.backplane.redis")


class RedisDirectory:
    """The Directory of all processes on one Redis."""

    def __init__(self, bridge: Bridge, prefix: str, *, settle: float = SETTLE_SECONDS) -> None:
        self._bridge = bridge
        self._prefix = prefix
        self._settle = settle
        self._highest = 0
        self._clock = RedisClock()
        self._born = b""
        """Names the data that Redis has; another name means that it has lost what it had."""
        self._settled = True

    async def sweep(self, *, pause: float = SWEEP_SECONDS) -> None:
        """End leases that are over and remove their routes, for ever.

        Every process does; whoever comes first publishes the end. It also keeps the clock of the leases
        going.
        """
        while True:
            try:
                [remaining] = await self._run(scripts.SWEEP, SWEEP_BATCH)
                if int(remaining):
                    continue
            except Unavailable as error:
                _log.debug("leases not looked after", error=str(error))
            await trio.sleep(random.uniform(0.5, 1.5) * pause)  # noqa: S311 - spreads load, keeps no secret

    async def announce(self, relay: RelayInfo, ttl: float) -> bool:
        """Take or renew a lease; return True if it was renewed. Raises ValueError for an impossible ttl."""
        if not 0 < ttl < math.inf:
            raise ValueError(f"a lease must last longer than 0 s and end some time, not {ttl} s")
        milliseconds = math.ceil(ttl * 1000)
        [renewed] = await self._run(scripts.ANNOUNCE, relay.id, _encoder.encode(relay), milliseconds)
        return renewed == b"1"

    async def withdraw(self, relay_id: str) -> None:
        """End a lease and its routes."""
        await self._run(scripts.WITHDRAW, relay_id)

    async def relays(self) -> list[RelayInfo]:
        """Return every relay with a lease. Raises Unavailable also while relays are only coming back."""
        [stored] = await self._run(scripts.RELAYS)
        self._check_settled()
        return [relay for _, relay in _stored_relays.decode(stored)]

    async def leases(self) -> list[RelayLease]:
        """Return every relay with a lease, and how long that lasts. Raises Unavailable as `relays`."""
        found = await self._run(scripts.LEASES)
        self._check_settled()
        return [
            RelayLease(relay=_stored_relay.decode(entry)[1], left=int(left) / 1000)
            for entry, left in zip(found[::2], found[1::2], strict=True)
        ]

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
        route = Route(
            project_id=project_id,
            project=project,
            relay_id=relay_id,
            tunnel_id=tunnel_id,
            generation=0,
            instance=instance,
            holder=holder,
        )
        head, tail = _around_generation(route)
        result, *detail = await self._run(
            scripts.CLAIM, project_id, relay_id, instance, int(takeover), head, tail
        )
        if result == b"lost":
            raise LeaseLost(relay_id)
        if result == b"held":
            raise RouteHeld(self._seen(_stored_route.decode(detail[0])[1]))
        return self._seen(replace(route, generation=int(detail[0])))

    async def reclaim(self, routes: Sequence[Route]) -> list[Route | RouteHeld]:
        """Put lost routes back where the project has no other one. Raises LeaseLost."""
        if not routes:
            await trio.lowlevel.checkpoint()
            return []
        self._highest = max(self._highest, *(route.generation for route in routes))
        relay_id = routes[0].relay_id
        if any(route.relay_id != relay_id for route in routes):
            raise ValueError("a call puts back routes of one relay")
        arguments: list[Argument] = [relay_id]
        for route in routes:
            arguments += [route.project_id, route.generation, *_around_generation(route)]
        result, *details = await self._run(scripts.RECLAIM, *arguments)
        if result == b"lost":
            raise LeaseLost(relay_id)
        found: list[Route | RouteHeld] = []
        for route, kind, detail in zip(routes, details[::2], details[1::2], strict=True):
            if kind == b"held":
                found.append(RouteHeld(self._seen(_stored_route.decode(detail)[1])))
            else:
                found.append(self._seen(replace(route, generation=int(detail))))
        return found

    async def release(self, project_id: str, generation: int) -> bool:
        """Remove a route by its generation; return whether it was there."""
        [released] = await self._run(scripts.RELEASE, project_id, generation)
        return released == b"1"

    async def route(self, project_id: str) -> Route | None:
        """Return a project's route. Raises Unavailable also when it may just not be back yet."""
        stored = await self._run(scripts.ROUTE, project_id)
        if stored:
            return self._seen(_stored_route.decode(stored[0])[1])
        self._check_settled()
        return None

    async def routes(self) -> list[Route]:
        """Return every route. Raises Unavailable also while they are only coming back.

        Read in batches: what changes meanwhile may be in it or not, and is published to those who subscribed.
        """
        found: dict[str, tuple[int, Route]] = {}
        cursor = b"0"
        while True:
            cursor, stored = await self._run(scripts.ROUTES, cursor, SNAPSHOT_BATCH)
            self._check_settled()
            for epoch, route in _stored_routes.decode(stored):
                known = found.get(route.project_id)
                if known is None or known[1].generation < route.generation:
                    found[route.project_id] = epoch, route
            if cursor == b"0":
                break
        [relays] = await self._run(scripts.RELAYS)
        self._check_settled()
        live = {epoch for epoch, _ in _stored_relays.decode(relays)}
        return [self._seen(route) for epoch, route in found.values() if epoch in live]

    async def _run(self, script: Script, *arguments: Argument) -> list[bytes]:
        latest = self._clock.latest()
        reply = await self._bridge.run(script, self._prefix, self._highest, latest, *arguments)
        self._clock.heard(int(reply[0]))
        if len(reply) == 1:
            raise Unavailable("Redis has not come to it in time")
        self._notice(reply[1], int(reply[2]))
        return reply[3:]

    def _notice(self, born: bytes, age: int) -> None:
        """Take note of which data Redis has. Other data than this process knew count only when old enough."""
        if self._born in (b"", born) or age >= self._settle * 1000:
            self._born = born
            self._settled = True
        else:
            self._settled = False

    def _check_settled(self) -> None:
        if not self._settled:
            raise Recovering("Redis has lost its data, and relays are putting their routes back")

    def _seen(self, route: Route) -> Route:
        self._highest = max(self._highest, route.generation)
        return route


def _around_generation(route: Route) -> tuple[bytes, bytes]:
    """Return the route as JSON without its generation, which is for the script to put between the two."""
    head, key, tail = _encoder.encode(replace(route, generation=0)).partition(b',"generation":')
    # No value can contain the key: in JSON its quotation marks would be escaped.
    return head + key, tail.removeprefix(b"0")
