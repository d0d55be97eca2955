"""What keeps a relay's entries in the directory true: the lease, its routes, and the news on the bus.

`Lease.run` and `follow_bus` are infrastructure tasks of `whook_relay.service`: an early return is fatal.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

import trio

from whook.backplane.ports import (
    TOPIC_KICK,
    TOPIC_ROUTES,
    Bus,
    BusGap,
    Directory,
    LeaseLost,
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
from whook.wire import GoAwayCode
from whook_relay.settings import RelaySettings
from whook_relay.switch import State, Switch, Tunnel

#: Seconds before a token's end, or else half its life, at which its client is asked to come with a new one.
#: One that came unasked would pass for one that had lost its connection, and what runs on its old tunnel
#: would be given up; clients come by themselves 60 s before the end.
RENEW_BEFORE: Final = 90.0
#: Share of the interval after which a renewal that failed is tried again: what was lost with the lease is
#: back within one interval of the directory.
_AFTER_FAILURE: Final = 0.2
_REPLACED: Final = "another connection holds the project now"

_log = get_logger("whook.relay.lease")


class Lease:
    """The relay's lease. `held` tells whether the last renewal succeeded."""

    def __init__(
        self,
        settings: RelaySettings,
        directory: Directory,
        switch: Switch,
        relay: RelayInfo,
        drain: Drain,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._switch = switch
        self._relay = relay
        self._drain = drain
        self.held = False
        self.told_draining = trio.Event()
        """The directory says of this relay that it takes no new tunnels."""
        self._lost: set[str] = set()  #: ids of projects whose routes went with a lease

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announce the relay and renew its lease for ever; put its routes back when the lease was lost."""
        started = False
        while True:
            self.held = await self._renew(first=not started)
            if self.held and not started:
                started = True
                task_status.started()
            _renew_tokens(self._switch)
            await self._pause()

    async def _pause(self) -> None:
        """Wait for the next renewal: it is due at once when a drain begins, and soon when one has failed."""
        interval = self._settings.lease_interval
        if not self.held:
            await trio.sleep(interval * _AFTER_FAILURE)
        elif self.told_draining.is_set():
            await trio.sleep(interval)
        else:
            with trio.move_on_after(interval):
                await self._drain.wait()

    def check(self) -> str | None:
        """Tell what is missing for readiness."""
        return None if self.held else "no lease in the directory"

    async def _renew(self, *, first: bool) -> bool:
        relay = replace(self._relay, load=len(self._switch.tunnels), draining=self._drain.begun)
        try:
            if first:  # an earlier process of this name may have left routes to tunnels that died with it
                await self._directory.withdraw(relay.id)
            renewed = await self._directory.announce(relay, self._settings.lease_ttl)
            if relay.draining:
                self.told_draining.set()
            if not renewed and self._switch.by_project:
                self._lost.update(self._switch.by_project)
                _log.warning("the lease was lost; putting routes back", tunnels=len(self._lost))
            await self._reclaim()
        except (Unavailable, LeaseLost) as error:
            _log.warning("lease not renewed", error=str(error))
            return False
        return True

    async def _reclaim(self) -> None:
        """Put the lost routes back; what an outage interrupts goes on at the next renewal."""
        switch, directory = self._switch, self._directory
        while self._lost:
            project_id = next(iter(self._lost))
            tunnel = switch.by_project.get(project_id)
            if tunnel is not None:
                try:
                    route = await directory.reclaim(route_of(tunnel, self._relay.id))
                except RouteHeld as held:
                    replace_tunnel(switch, tunnel, held.route)
                else:
                    if switch.by_project.get(project_id) is tunnel:
                        switch.hold(tunnel, route.generation)
                    else:  # it ended meanwhile, and released the generation that it knew
                        await directory.release(project_id, route.generation)
            self._lost.discard(project_id)


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
    retry: float,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Close tunnels that were replaced or whose right was withdrawn, for ever.

    After a gap the routes are read; when that fails, again `retry` seconds later.
    """
    async with bus.subscribe(TOPIC_ROUTES, TOPIC_KICK) as news:
        task_status.started()
        while True:
            try:
                async for topic, message in news:
                    if topic == TOPIC_KICK:
                        _kick(switch, message)
                    else:
                        _follow_route(switch, message)
            except BusGap:
                await _check_routes(directory, switch, retry)


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


def _kick(switch: Switch, message: bytes) -> None:
    kick = decode_kick(message)
    for tunnel in list(switch.tunnels.values()):
        if kick.matches(
            project_id=tunnel.project_id,
            project=tunnel.project,
            user_id=tunnel.user_id,
            token_id=tunnel.token_id,
        ):
            switch.retire(tunnel, GoAwayCode.REVOKED, kick.reason, now=True)


async def _check_routes(directory: Directory, switch: Switch, retry: float) -> None:
    while True:
        try:
            routes = await directory.routes()
        except Unavailable as error:
            _log.warning("routes not checked after a gap in the bus", error=str(error))
            await trio.sleep(retry)
            continue
        for route in routes:
            _obey(switch, route)
        return
