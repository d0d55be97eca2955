"""What keeps a relay's entries in the directory true: the lease, its routes, and the news on the bus.

`Lease.run` and `follow_bus` are infrastructure tasks of `whook_relay.service`: an early return is fatal.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import islice
from typing import Final

import trio

from whook.backplane.ports import (
    TOPIC_KICK,
    TOPIC_ROUTES,
    Bus,
    BusGap,
    Directory,
    LeaseLost,
    RecentKicks,
    RelayInfo,
    Route,
    RouteHeld,
    RouteSet,
    Unavailable,
    decode_kick,
    decode_route_event,
)
from whook.chassis.drain import Drain
from whook.chassis.logs import get_logger
from whook.chassis.published import LeaseState
from whook.chassis.readiness import Degraded
from whook.wire import GoAwayCode
from whook_relay.held import State, Tunnel
from whook_relay.settings import RelaySettings
from whook_relay.standby import Standby
from whook_relay.switch import Switch

#: Seconds before a token's end, or else half its life, at which its client is asked to come with a new one.
#: One that came unasked would pass for one that had lost its connection, and what runs on its old tunnel
#: would be given up; clients come by themselves 60 s before the end.
RENEW_BEFORE: Final = 90.0
#: Routes put back by one call: 10,000 are a hundred calls, each of which keeps Redis from others for 4 ms.
RECLAIM_BATCH: Final = 100
#: Share of the interval after which a renewal that failed is tried again: what was lost with the lease is
#: back within one interval of the directory.
_AFTER_FAILURE: Final = 0.2
_REPLACED: Final = "another connection holds the project now"

_log = get_logger("whook.relay.lease")


class Lease:
    """The relay's lease."""

    def __init__(
        self,
        settings: RelaySettings,
        directory: Directory,
        switch: Switch,
        relay: RelayInfo,
        drain: Drain,
        standby: Standby,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._switch = switch
        self._relay = relay
        self._drain = drain
        self._standby = standby
        self.held = trio.Event()
        """It was held at least once."""
        self.told_draining = trio.Event()
        """The directory says of this relay that it takes no new tunnels."""
        self.state = LeaseState()
        self._missing: str | Degraded | None = "no lease in the directory"

    async def run(self) -> None:
        """Announce the relay and renew its lease for ever; put its routes back when the lease was lost."""
        while True:
            changed = self._standby.changed  # taken before it is told, so that no change is missed
            self._missing = await self._renew(first=not self.held.is_set())
            _renew_tokens(self._switch)
            await self._pause(changed)

    async def _pause(self, changed: trio.Event) -> None:
        """Wait for the next renewal: it is due at once when there is news, and soon when one has failed."""
        interval = self._settings.lease_interval
        if self._missing is not None:
            await trio.sleep(interval * _AFTER_FAILURE)
        elif self.told_draining.is_set():
            await trio.sleep(interval)
        else:
            with trio.move_on_after(interval):
                await self._news(changed)

    async def _news(self, changed: trio.Event) -> None:
        """Wait until a drain begins, or the relay is taken out of service, put back, or has become empty."""
        async with trio.open_nursery() as nursery:

            async def until(event: Callable[[], Awaitable[None]]) -> None:
                await event()
                nursery.cancel_scope.cancel(reason="there is news")

            nursery.start_soon(until, self._drain.wait)
            nursery.start_soon(until, changed.wait)
            if self._standby.active and self._switch.tunnels:
                nursery.start_soon(until, self._switch.wait_empty)

    def check(self) -> str | Degraded | None:
        """Tell what is missing for readiness.

        A directory out of reach merely degrades a relay that has its tunnels: a load balancer that took it
        out would cut them.
        """
        return self._missing

    async def _renew(self, *, first: bool) -> str | Degraded | None:
        """Return what is missing for readiness."""
        leaving = self._drain.begun
        relay = replace(self._relay, load=len(self._switch.tunnels), draining=leaving or self._standby.active)
        try:
            if first:  # an earlier process of this name may have left routes to tunnels that died with it
                await self._directory.withdraw(relay.id)
            renewed = await self._directory.announce(relay, self._settings.lease_ttl)
            self.held.set()
            self.state.renewed(again=not first and not renewed)
            if leaving:
                self.told_draining.set()
            if not renewed:
                claims = self._switch.claims
                claims.new_lease(self._switch.by_project)
                if claims.lost:
                    _log.warning("the lease was lost; putting routes back", tunnels=len(claims.lost))
            await self._reclaim()
        except LeaseLost as error:
            self.state.failed(lost=True)
            _log.warning("lease not renewed", error=str(error))
            return "no lease in the directory"
        except Unavailable as error:
            self.state.failed()
            _log.warning("lease not renewed", error=str(error))
            if not self.held.is_set():
                return f"no lease yet: {error}"
            return Degraded(f"serving the tunnels that are open, but no new ones: {error}")
        return None

    async def _reclaim(self) -> None:
        """Put the lost routes back; what an outage interrupts goes on at the next renewal."""
        switch, lost = self._switch, self._switch.claims.lost
        while lost:
            batch = list(islice(lost, RECLAIM_BATCH))
            tunnels = [tunnel for tunnel in map(switch.by_project.get, batch) if tunnel is not None]
            if tunnels:
                routes = [route_of(tunnel, self._relay.id) for tunnel in tunnels]
                answers = await self._directory.reclaim(routes)
                for tunnel, answer in zip(tunnels, answers, strict=True):
                    await self._take(tunnel, answer)
            lost.difference_update(batch)

    async def _take(self, tunnel: Tunnel, answer: Route | RouteHeld) -> None:
        switch = self._switch
        if isinstance(answer, RouteHeld):
            replace_tunnel(switch, tunnel, answer.route)
        elif switch.by_project.get(tunnel.project_id) is tunnel:
            switch.hold(tunnel, answer.generation)
        else:  # it ended meanwhile, and released the generation that it knew
            await self._directory.release(tunnel.project_id, answer.generation)


def route_of(tunnel: Tunnel, relay_id: str) -> Route:
    """Return the route of a tunnel of this relay."""
    return Route(
        project_id=tunnel.project_id,
        project=tunnel.project,
        relay_id=relay_id,
        tunnel_id=tunnel.id,
        generation=tunnel.generation,
        instance=tunnel.instance,
        holder=tunnel.holder,
    )


def _renew_tokens(switch: Switch) -> None:
    now = time.time()
    for tunnel in list(switch.tunnels.values()):
        if tunnel.renew_at <= now:
            switch.ask_to_leave(tunnel, GoAwayCode.EXPIRED, "the tunnel's token expires: reconnect")


async def follow_bus(
    bus: Bus,
    directory: Directory,
    switch: Switch,
    kicks: RecentKicks,
    retry: float,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Close tunnels that were replaced or whose right was withdrawn, for ever.

    At the start and after a gap the routes and the kicks of late are read; when that fails, again `retry`
    seconds later. `kicks` are also for judging those who come with a token from before.
    """
    async with bus.subscribe(TOPIC_ROUTES, TOPIC_KICK) as news:
        task_status.started()
        await _catch_up(bus, directory, switch, kicks, retry)
        while True:
            try:
                async for topic, message in news:
                    if topic == TOPIC_KICK:
                        _kick(switch, kicks, message)
                    else:
                        _follow_route(switch, message)
            except BusGap:
                await _catch_up(bus, directory, switch, kicks, retry)


def _follow_route(switch: Switch, message: bytes) -> None:
    event = decode_route_event(message)
    if isinstance(event, RouteSet):
        _obey(switch, event.route)


def _obey(switch: Switch, route: Route) -> None:
    """Make what this relay holds of a project agree with the project's route."""
    switch.claims.overtake(route)
    tunnel = switch.by_project.get(route.project_id)
    if tunnel is not None and tunnel.id == route.tunnel_id:
        return
    if tunnel is not None:
        replace_tunnel(switch, tunnel, route)
    _move_watchers(switch, route)


def replace_tunnel(switch: Switch, tunnel: Tunnel, route: Route) -> None:
    """Retire a tunnel whose project has a newer route.

    One that was asked to leave finishes what it has; one whose client reconnected by itself is its ghost.
    """
    if route.generation <= tunnel.generation:
        return
    if route.instance == tunnel.instance:
        ghost = tunnel.state is State.ACTIVE
        switch.retire(tunnel, GoAwayCode.MOVED, "the client has connected anew", now=ghost)
    else:
        message = f"{_REPLACED}: {route.holder}"
        switch.retire(tunnel, GoAwayCode.REPLACED, message)


def _move_watchers(switch: Switch, route: Route) -> None:
    if route.tunnel_id not in switch.tunnels:
        for watcher in list(switch.watchers.get(route.project_id, ())):
            switch.retire(watcher, GoAwayCode.MOVED, "the project is held on another relay now")


def _kick(switch: Switch, kicks: RecentKicks, message: bytes) -> None:
    kick = decode_kick(message)
    if kick is None:
        return
    kicks.note(kick, time.time())
    for tunnel in list(switch.tunnels.values()):
        if kick.covers(tunnel.issued_at) and kick.matches(
            project_id=tunnel.project_id,
            project=tunnel.project,
            user_id=tunnel.user_id,
            token_id=tunnel.token_id,
            tunnel_id=tunnel.id,
        ):
            switch.retire(tunnel, GoAwayCode.REVOKED, kick.reason, now=True)


async def _catch_up(bus: Bus, directory: Directory, switch: Switch, kicks: RecentKicks, retry: float) -> None:
    """Read what may have been missed, until that succeeds."""
    while True:
        try:
            kept = await bus.kept(TOPIC_KICK)
            routes = await directory.routes() if switch.tunnels else []
        except Unavailable as error:
            _log.warning("routes and kicks not read after a gap in the bus", error=str(error))
            await trio.sleep(retry)
            continue
        now = time.time()
        found = [kick for kick in map(decode_kick, kept) if kick is not None]
        if sum([kicks.note(kick, now) for kick in found]):  # not any: each is to be noted
            _apply_kicks(switch, kicks)
        for route in routes:
            _obey(switch, route)
        return


def _apply_kicks(switch: Switch, kicks: RecentKicks) -> None:
    for tunnel in list(switch.tunnels.values()):
        kick = kicks.find(
            project_id=tunnel.project_id,
            project=tunnel.project,
            user_id=tunnel.user_id,
            token_id=tunnel.token_id,
            issued_at=tunnel.issued_at,
            tunnel_id=tunnel.id,
        )
        if kick is not None:
            switch.retire(tunnel, GoAwayCode.REVOKED, kick.reason, now=True)
