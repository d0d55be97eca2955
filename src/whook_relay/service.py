"""The relay's supervision tree. `run_relay` is called by the composition root with its ports open.

relay body
└─ infrastructure: lease, bus, orders, sender, heartbeat, releases  an early return is fatal
└─ listeners → tunnels, trunks                   end with the drain, at its deadline by force
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from random import uniform
from typing import Final

import trio

from whook.backplane.ports import Bus, Directory, RecentKicks, RelayInfo, Unavailable
from whook.chassis import metrics
from whook.chassis.admission import Admission
from whook.chassis.drain import Drain
from whook.chassis.listen import bound_address, open_listeners
from whook.chassis.logs import get_logger
from whook.chassis.published import publish_heartbeat, publish_links
from whook.chassis.readiness import Readiness
from whook.chassis.shedding import Shedding
from whook.chassis.tcp import TcpLimits, serve_tcp
from whook.chassis.tunnel_token import Verifier
from whook.link import Heartbeat, Sender
from whook.telemetry.tracing import Tracer
from whook.wire import GoAwayCode
from whook_relay.denials import Denials
from whook_relay.lease import Lease, follow_bus
from whook_relay.observed import ObservedSwitch
from whook_relay.releases import Releases
from whook_relay.settings import RelaySettings
from whook_relay.standby import Standby, follow_orders
from whook_relay.switch import Switch
from whook_relay.trunks import Trunks
from whook_relay.tunnels import PATH, Tunnels

#: Share of the drain over which clients are asked to leave, so that they do not reconnect all at once.
_LEAVE_SPREAD: Final = 0.3
#: Share of the drain that is kept for closing what would not close by itself and for withdrawing the lease.
_LAST_SHARE: Final = 0.1
#: Seconds given to the directory to take the withdrawal; the lease ends by itself otherwise.
_WITHDRAW_TIMEOUT: Final = 2.0
#: Seconds that a start waits for the lease, before it counts as started without one: a supervisor that gave
#: up on it would only start it again.
START_PATIENCE: Final = 10.0
#: Seconds given to conductors to take leave.
_TRUNKS_TIMEOUT: Final = 2.0
_DRAINED: Final = "the relay has drained"
#: Connections that wait to be accepted. What does not fit into the queue hears nothing, and after 10 s of
#: that asks a conductor, which costs five times what a handshake does.
_BACKLOG: Final = 2048
#: Of these, how many may wait before clients are told when to come back: if they waited longer, a slow core
#: would only take those that have given up.
_WAITING: Final = 256
#: Connections beyond the capacity, for handshakes that will be answered with 503.
_SPARE_CONNECTIONS: Final = 1_000

_log = get_logger("whook.relay")


@dataclass(frozen=True, slots=True)
class RelayPorts:
    """Where a started relay is reached."""

    tunnel_url: str
    trunk_url: str


async def run_relay(
    settings: RelaySettings,
    *,
    directory: Directory,
    bus: Bus,
    verifier: Verifier,
    drain: Drain,
    readiness: Readiness,
    refresh_keys: Callable[[], Awaitable[None]] | None = None,
    tracer: Tracer | None = None,
    task_status: trio.TaskStatus[RelayPorts] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a relay until its drain is over.

    `refresh_keys` brings `verifier` up to date when a token names a key that it does not know. `tracer` takes
    the spans of exchanges.

    Raises:
        ListenError: an address is taken or unusable.
        ValueError: the cluster key is not set.
    """
    if not settings.cluster_key.get_secret_value():
        raise ValueError("cluster_key is not set: without it anyone could pass for a conductor")
    with ExitStack() as sockets:
        tunnel_listeners = await open_listeners(
            settings.listen, what="tunnels", option="--tunnel-port", backlog=_BACKLOG
        )
        sockets.callback(_close, tunnel_listeners)
        trunk_listeners = await open_listeners(
            settings.trunk_listen, what="trunks", option="WHOOK_RELAY_TRUNK_LISTEN"
        )
        sockets.callback(_close, trunk_listeners)
        relay = RelayInfo(
            id=settings.relay_id,
            tunnel_url=(settings.tunnel_url or f"ws://{bound_address(tunnel_listeners)}").rstrip("/") + PATH,
            trunk_url=settings.trunk_url or f"tcp://{bound_address(trunk_listeners)}",
            capacity=settings.capacity,
            load=0,
            version=metrics.version(),
        )
        body = _Body(settings, relay, directory, bus, verifier, drain, refresh_keys, tracer)
        with (
            body.published(),
            readiness.check("lease", body.lease.check),
        ):
            await body.run(tunnel_listeners, trunk_listeners, task_status)


class _Body:
    """What a relay is made of, and the tree in which it runs."""

    def __init__(
        self,
        settings: RelaySettings,
        relay: RelayInfo,
        directory: Directory,
        bus: Bus,
        verifier: Verifier,
        drain: Drain,
        refresh_keys: Callable[[], Awaitable[None]] | None,
        tracer: Tracer | None,
    ) -> None:
        agent = f"whook/{metrics.version()}"
        self._capacity = settings.capacity
        self._lease_interval = settings.lease_interval
        self._relay = relay
        self._directory = directory
        self._bus = bus
        self._drain = drain
        self._heartbeat = Heartbeat(settings.heartbeat)
        self._sender = Sender()
        self.switch: Switch = ObservedSwitch(
            max_exchanges=settings.max_exchanges, max_watchers=settings.max_watchers, tracer=tracer
        )
        self._standby = Standby(settings.relay_id)
        self.lease = Lease(settings, directory, self.switch, relay, drain, self._standby)
        self.releases = Releases(directory)
        self._kicks = RecentKicks()
        self.admission = Admission(settings.handshakes_per_second, settings.max_handshakes)
        self._tunnels = Tunnels(
            settings,
            self.switch,
            directory=directory,
            verifier=verifier,
            heartbeat=self._heartbeat,
            sender=self._sender,
            drain=drain,
            agent=agent,
            releases=self.releases,
            admission=self.admission,
            denials=Denials(bus, settings.relay_id),
            kicks=self._kicks,
            refresh_keys=refresh_keys,
            lacking=lambda: self._standby.check() or self.lease.check(),
            standby=self._standby,
        )
        # Trunks carry what the tunnels finish, so they end after them.
        self._trunk_drain = Drain(grace=drain.grace)
        self._trunks = Trunks(
            settings,
            self.switch,
            heartbeat=self._heartbeat,
            sender=self._sender,
            drain=self._trunk_drain,
            agent=agent,
        )

    @contextmanager
    def published(self) -> Generator[None]:
        """Publish metrics as long as the block runs."""
        switch, tunnels, trunks = self.switch, self._tunnels, self._trunks
        with metrics.Publisher() as to:
            to.gauge("whook_tunnels", "Open tunnels.", lambda: len(switch.tunnels))
            to.gauge("whook_relay_capacity", "Tunnels that the relay takes.", lambda: self._capacity)
            tunnels.publish(to)
            to.gauge("whook_trunks", "Open trunks.", lambda: len(switch.trunks))
            to.counter("whook_trunks_opened", "Trunks that conductors opened.", lambda: trunks.opened)
            to.counts("whook_trunks_refused", "Connections that became no trunk.", trunks.refused, "reason")
            to.gauge("whook_relay_circuits", "Exchanges under way.", switch.under_way)
            to.counter("whook_relay_exchanges", "Exchanges opened.", lambda: switch.opened)
            to.durations(
                "whook_relay_exchange_seconds", "From an exchange's opening to its end.", switch.seconds
            )
            to.counter("whook_relay_exchanges_lost", "Exchanges lost with their tunnel.", lambda: switch.lost)
            refusals = "Exchanges refused by the relay, by reason."
            to.counts("whook_relay_refusals", refusals, switch.refused, "reason")
            busy = "Handshakes told to come back later."
            to.counter("whook_relay_busy", busy, lambda: self.admission.refused)
            waiting = "Routes that wait to be released."
            to.gauge("whook_relay_releases", waiting, lambda: len(self.releases))
            self.lease.state.publish(to, "relay")
            publish_links(to, "tunnel", "relay", tunnels.traffic, switch.tunnels.values)
            publish_links(to, "trunk", "relay", trunks.traffic, lambda: switch.trunks)
            publish_heartbeat(to, "relay", self._heartbeat)
            yield

    async def run(
        self,
        tunnel_listeners: list[trio.SocketListener],
        trunk_listeners: list[trio.SocketListener],
        task_status: trio.TaskStatus[RelayPorts],
    ) -> None:
        """Serve until the drain is over."""
        relay, switch, drain, trunk_drain = self._relay, self.switch, self._drain, self._trunk_drain
        async with trio.open_nursery() as infrastructure:
            await infrastructure.start(
                follow_bus, self._bus, self._directory, switch, self._kicks, self._lease_interval
            )
            await infrastructure.start(follow_orders, self._bus, self._standby, self._lease_interval)
            infrastructure.start_soon(self._standby.run, switch, name="standby")
            infrastructure.start_soon(self._sender.run, name="sender")
            infrastructure.start_soon(self._heartbeat.run, name="heartbeat")
            infrastructure.start_soon(self.releases.run, name="releases")
            async with trio.open_nursery() as handlers:
                await handlers.start(
                    partial(
                        serve_tcp,
                        self._trunks.handle,
                        trunk_listeners,
                        name="trunks",
                        drain=trunk_drain,
                        limits=TcpLimits(per_address=None),
                    )
                )
                infrastructure.start_soon(self.lease.run, name="lease")
                await _wait_held(self.lease, drain)
                # Without a lease no tunnel can have a route: until then clients wait at the socket.
                await handlers.start(
                    partial(
                        serve_tcp,
                        self._tunnels.handle,
                        tunnel_listeners,
                        name="tunnels",
                        drain=drain,
                        limits=TcpLimits(self._capacity + _SPARE_CONNECTIONS, per_address=None),
                        shedding=Shedding(_WAITING, self._tunnels.turn_away),
                    )
                )
                task_status.started(RelayPorts(relay.tunnel_url, relay.trunk_url))
                _log.info("relay ready", tunnels=relay.tunnel_url, trunks=relay.trunk_url)
                await drain.wait()
                handlers.cancel_scope.deadline = drain.deadline - _LAST_SHARE * drain.grace
                with trio.move_on_after(_WITHDRAW_TIMEOUT):
                    await self.lease.told_draining.wait()  # or conductors would send the clients back here
                await _let_go(self._directory, switch, relay, drain)
                trunk_drain.begin(drain.reason)
                await _close_trunks(switch)
            infrastructure.cancel_scope.cancel(reason="the relay has drained")
        await _withdraw(self._directory, relay)  # once nothing renews the lease any more


async def _wait_held(lease: Lease, drain: Drain) -> None:
    """Wait until the relay is in the directory."""
    async with drain.patience(START_PATIENCE):
        await lease.held.wait()
    if not lease.held.is_set():
        _log.warning("started without a lease: unready until the directory answers")


def _close(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()


async def _let_go(directory: Directory, switch: Switch, relay: RelayInfo, drain: Drain) -> None:
    """Send the clients away and return when the last tunnel has closed; the caller bounds it.

    While another relay can take them, each keeps its tunnel until it has opened a new one. Where there is
    none, a tunnel closes as soon as its exchanges have finished.
    """
    message = f"the relay is going away: {drain.reason}"
    if await _others(directory, relay):
        pause = drain.grace * _LEAVE_SPREAD / max(1, len(switch.tunnels))
        for tunnel in list(switch.tunnels.values()):
            if tunnel.id not in switch.tunnels:
                continue
            switch.ask_to_leave(tunnel, GoAwayCode.DRAIN, message)
            with trio.move_on_after(uniform(0, 2 * pause)):  # noqa: S311 - spreads load, keeps no secret
                await switch.wait_empty()
    else:
        for tunnel in list(switch.tunnels.values()):
            switch.retire(tunnel, GoAwayCode.DRAIN, message)
    await switch.wait_empty()


async def _close_trunks(switch: Switch) -> None:
    """Close the trunks so that no exchange is lost that a conductor opened before it knew.

    Each conductor answers our GOAWAY with its own, behind the last exchange that it opens; that one is
    refused before the trunk closes, and goes where its project is now.
    """
    for trunk in list(switch.trunks):
        switch.send_away(trunk, _DRAINED)
    with trio.move_on_after(_TRUNKS_TIMEOUT):
        await switch.wait_no_trunks()
    for trunk in list(switch.trunks):
        trunk.link.finish(_DRAINED)


async def _others(directory: Directory, relay: RelayInfo) -> bool:
    with trio.move_on_after(_WITHDRAW_TIMEOUT):
        try:
            return any(other.id != relay.id and not other.draining for other in await directory.relays())
        except Unavailable:
            pass
    return False


async def _withdraw(directory: Directory, relay: RelayInfo) -> None:
    with trio.move_on_after(_WITHDRAW_TIMEOUT):
        try:
            await directory.withdraw(relay.id)
        except Unavailable as error:
            _log.warning("lease not withdrawn; it will expire", error=str(error))
