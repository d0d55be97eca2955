"""The conductor's supervision tree. `run_conductor` is called by the composition root with its ports open.

conductor body
└─ infrastructure: route sync · relay watch · project sync · trunks · recorder     an early return is fatal
   └─ handlers: ingress → connections · API                end with the drain, at its deadline by force

It listens, and answers with 503, before it knows any route: whoever comes then is told so instead of waiting.
Until it does know them it is unready.

Drain, in this order: readiness fails (the chassis sees to it); the listeners stop; idle connections close;
requests under way finish, and new ones on open connections are answered with 503; then the trunks close,
and the last outcomes are handed on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from whook.backplane.ports import Auth, Bus, Directory, Projects
from whook.chassis import metrics
from whook.chassis.admission import Admission
from whook.chassis.asgi import App, AsgiLimits, serve_asgi
from whook.chassis.drain import Drain
from whook.chassis.ids import new_id
from whook.chassis.listen import bound_address, bound_port, open_listeners
from whook.chassis.logs import get_logger
from whook.chassis.readiness import Readiness
from whook.chassis.tcp import TcpLimits, serve_tcp
from whook_conductor.addressing import Addressing
from whook_conductor.api import build_api
from whook_conductor.control import Control
from whook_conductor.dialogue import Context
from whook_conductor.ingress import REFUSAL, Ingress
from whook_conductor.metrics import RequestTotals
from whook_conductor.outcomes import Consumer, OutcomeRecorder
from whook_conductor.placement import Placement
from whook_conductor.projects import ProjectCache, sync_projects
from whook_conductor.quick import QuickTunnels
from whook_conductor.relays import watch_relays
from whook_conductor.resolver import Resolver
from whook_conductor.routes import RouteTable, sync_routes
from whook_conductor.settings import ConductorSettings
from whook_conductor.trunks import Trunks

_API_BODY: Final = 65_536
"""Longest body of an API request in bytes: a tunnel is asked for in about a hundred."""

_API_BACKLOG: Final = 512
"""Connections to the API that wait to be accepted. A client waits 15 s for an answer: in a longer queue a
conductor that is short of CPU would answer only those that have given up."""

_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A silent connection is probed after a minute, and given up two minutes after its other end vanished."""

START_PATIENCE: Final = 10.0
"""Seconds that a start waits for the directory and the trunks, before it counts as started without them: a
supervisor that gave up on it would only start it again."""

_log = get_logger("whook.conductor")


@dataclass(frozen=True, slots=True)
class ConductorPorts:
    """Where a started conductor is reached. Addresses are `host:port`."""

    ingress_address: str
    ingress_port: int
    api_address: str
    api_port: int
    public_url: Callable[[str], str]
    """Gives the address under which senders reach a project, by its name."""


async def run_conductor(
    settings: ConductorSettings,
    *,
    directory: Directory,
    bus: Bus,
    projects: Projects,
    auth: Auth,
    drain: Drain,
    readiness: Readiness,
    outcome_consumers: Sequence[Consumer] = (),
    task_status: trio.TaskStatus[ConductorPorts] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a conductor until its drain is over.

    Started once it knows all routes and has tried its trunks, or after `START_PATIENCE` without: then it is
    unready until it does. `outcome_consumers` get what became of every
    request, in batches, beside the metrics.

    Raises:
        ListenError: an address is taken or unusable.
        ValueError: there is no cluster key.
    """
    if not settings.cluster_key.get_secret_value():
        raise ValueError("cluster_key is not set: without it anyone could pass for a relay")
    with ExitStack() as sockets:
        ingress_listeners = await open_listeners(settings.listen, what="webhooks", option="--port")
        sockets.callback(_close, ingress_listeners)
        _keep_alive(ingress_listeners)
        api_listeners = await open_listeners(
            settings.api, what="the API", option="--api-port", backlog=_API_BACKLOG
        )
        sockets.callback(_close, api_listeners)
        ports = ConductorPorts(
            ingress_address=bound_address(ingress_listeners),
            ingress_port=bound_port(ingress_listeners),
            api_address=bound_address(api_listeners),
            api_port=bound_port(api_listeners),
            public_url=partial(settings.public_url, ingress_port=bound_port(ingress_listeners)),
        )
        parts = _Parts(settings, directory, projects, drain, outcome_consumers)
        control = Control(
            auth=auth,
            projects=projects,
            cache=parts.cache,
            table=parts.table,
            resolver=parts.resolver,
            placement=parts.placement,
            admission=parts.admission,
            public_url=ports.public_url,
            drain=drain,
        )
        with parts.published(readiness):
            async with trio.open_nursery() as infrastructure:
                infrastructure.start_soon(parts.recorder.run, name="outcome recorder")
                infrastructure.start_soon(parts.trunks.run, name="trunks")
                infrastructure.start_soon(sync_projects, parts.cache, bus, name="project sync")
                infrastructure.start_soon(
                    partial(
                        watch_relays,
                        directory,
                        bus,
                        [parts.placement.update, parts.trunks.update],
                        interval=settings.relay_refresh,
                    ),
                    name="relay watch",
                )
                infrastructure.start_soon(sync_routes, parts.table, directory, bus, name="route sync")
                async with trio.open_nursery() as handlers:
                    handlers.start_soon(parts.ingress.end_idle, name="idle connections")
                    await handlers.start(
                        partial(
                            serve_tcp,
                            parts.ingress.handle,
                            ingress_listeners,
                            name="ingress",
                            drain=drain,
                            limits=TcpLimits(
                                settings.max_connections, settings.max_connections_per_address or None
                            ),
                            refusal=REFUSAL,
                        )
                    )
                    await handlers.start(
                        partial(
                            serve_asgi,
                            _app(settings, control),
                            api_listeners,
                            name="api",
                            drain=drain,
                            limits=AsgiLimits(
                                per_address=settings.max_connections_per_address or None,
                                body=_API_BODY,
                            ),
                        )
                    )
                    await _wait_known(parts, settings.trunk_connect_timeout, drain)
                    task_status.started(ports)
                    _log.info("conductor ready", ingress=ports.ingress_address, api=ports.api_address)
                    await drain.wait()
                    handlers.cancel_scope.deadline = drain.deadline
                infrastructure.cancel_scope.cancel(reason="the conductor has drained")


def _app(settings: ConductorSettings, control: Control) -> App:
    """Return the API, with the way for tunnels in front."""
    trusted = settings.trusted_proxies
    api = build_api(control, auth_url=settings.auth_url, trusted_proxies=trusted)
    return QuickTunnels(api, control, trusted_proxies=trusted)


class _Parts:
    """What a conductor is made of, put together. Nothing runs yet."""

    def __init__(
        self,
        settings: ConductorSettings,
        directory: Directory,
        projects: Projects,
        drain: Drain,
        consumers: Sequence[Consumer],
    ) -> None:
        self.totals = RequestTotals()
        self.recorder = OutcomeRecorder([self.totals.add, *consumers])
        self.table = RouteTable()
        self.cache = ProjectCache(
            projects,
            ttl=settings.project_ttl,
            unknown_ttl=settings.unknown_project_ttl,
            max_unknown=settings.max_unknown_projects,
        )
        self.resolver = Resolver(self.table, self.cache, directory)
        self.placement = Placement(trio.current_time, reachable=lambda relay_id: self.trunks.is_up(relay_id))
        self.admission = Admission(settings.tunnels_per_second, settings.max_tunnel_requests)
        self.trunks = Trunks(
            settings.cluster_key.get_secret_value().encode(),
            agent=f"whook/{metrics.version()}",
            instance=new_id("cnd"),
            max_exchanges=settings.max_exchanges,
            connect_timeout=settings.trunk_connect_timeout,
            cap=settings.trunk_retry_cap,
        )
        self.ingress = Ingress(
            Context(
                settings=settings,
                addressing=Addressing(settings.base_domain, settings.path_prefix),
                table=self.table,
                resolver=self.resolver,
                trunks=self.trunks,
                recorder=self.recorder,
                drain=drain,
            )
        )

    @contextmanager
    def published(self, readiness: Readiness) -> Generator[None]:
        """Publish metrics and readiness as long as the block runs."""
        table, trunks = self.table, self.trunks
        gauges: list[tuple[str, str, Callable[[], float]]] = [
            ("whook_routes", "Routes known.", lambda: len(table)),
            ("whook_routes_behind", "1 while routes may be out of date.", lambda: not table.ready),
            ("whook_conductor_trunks", "Trunks that are up.", lambda: trunks.connected),
            ("whook_exchanges", "Requests that are with a relay.", lambda: trunks.active),
        ]
        unreadable = "Requests that could not be read, by the status of the answer."
        malformed = self.ingress.malformed
        with ExitStack() as stack:
            stack.enter_context(
                metrics.watch(
                    "whook_conductor_busy",
                    "Requests for a tunnel that were told to come back later.",
                    lambda: self.admission.refused,
                    kind="counter",
                )
            )
            stack.enter_context(self.totals.publish(self.recorder))
            for name, meaning, read in gauges:
                stack.enter_context(metrics.watch(name, meaning, read))
            for status in malformed:
                count = partial(malformed.__getitem__, status)
                stack.enter_context(
                    metrics.watch(
                        "whook_requests_malformed", unreadable, count, kind="counter", status=str(status)
                    )
                )
            stack.enter_context(
                metrics.watch(
                    "whook_routes_behind", "1 while routes may be out of date.", lambda: not table.ready
                )
            )
            stack.enter_context(readiness.check("routes", table.check))
            yield


async def _wait_known(parts: _Parts, trunk_patience: float, drain: Drain) -> None:
    """Wait until the routes are known and the trunks were tried."""
    async with drain.patience(START_PATIENCE):
        await parts.table.loaded.wait()
        await parts.placement.reported.wait()
        with trio.move_on_after(trunk_patience):
            for relay in parts.placement.relays:
                await parts.trunks.wait_up(relay.id)
    if not parts.table.loaded.is_set():
        _log.warning("started without routes: unready until the directory answers", error=parts.table.outage)


def _keep_alive(listeners: Sequence[trio.SocketListener]) -> None:
    """Have the system look after senders that are silent; connections inherit it from their listener.

    It finds out those whose machine or network has vanished, while their streamed response has nothing to
    say.
    """
    for listener in listeners:
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                listener.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _close(listeners: Sequence[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()
