"""The conductor's supervision tree. `run_conductor` is called by the composition root with its ports open.

conductor body
└─ infrastructure: route sync · relay watch · project sync · backlog sync · trunks · recorder · followers
   │               · queue size                            an early return is fatal
   └─ handlers: ingress → connections · API · dispatcher → backlogs → deliveries
                                                           end with the drain, at its deadline by force

It listens, and answers with 503, before it knows any route: whoever comes then is told so instead of waiting.
Until it does know them it is unready. At a socket of the supervisor's they have waited already, and wait on.

Drain, in this order: readiness fails (the chassis sees to it); the listeners stop; idle connections close;
requests and deliveries under way finish, and so does one more request on each connection that is open (503 in
the second half of the drain); the backlogs are left to other owners; then the trunks close, and the last
outcomes are handed on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio
from fastapi import APIRouter

from whook.backplane.ports import Auth, Blobs, Bus, Directory, History, Journal, Projects, Queue
from whook.chassis import metrics
from whook.chassis.admission import Admission
from whook.chassis.asgi import App, AsgiLimits, serve_asgi
from whook.chassis.drain import Drain
from whook.chassis.ids import new_id
from whook.chassis.listen import bound_address, bound_port, is_inherited, open_listeners
from whook.chassis.logs import get_logger
from whook.chassis.readiness import Readiness
from whook.chassis.tcp import TcpLimits, serve_tcp
from whook.telemetry.tracing import Tracer
from whook_conductor.addressing import Addressing
from whook_conductor.admin import Admin
from whook_conductor.admin_api import admin_router
from whook_conductor.api import build_api
from whook_conductor.backlogs import BacklogTable, sync_backlogs
from whook_conductor.buffering import Buffering
from whook_conductor.capture import CaptureLimits
from whook_conductor.control import Control
from whook_conductor.deliveries import Courier
from whook_conductor.dialogue import Context
from whook_conductor.dispatcher import Dispatcher
from whook_conductor.events_service import make_events_service
from whook_conductor.ingress import REFUSAL, Ingress, introduction
from whook_conductor.metrics import RequestTotals
from whook_conductor.outcome_log import OutcomeLog
from whook_conductor.outcomes import Consumer, OutcomeRecorder
from whook_conductor.placement import Placement
from whook_conductor.projects import ProjectCache, sync_projects
from whook_conductor.queue_size import QueueSize
from whook_conductor.quick import QuickTunnels
from whook_conductor.recorder import HistoryRecorder
from whook_conductor.relays import watch_relays
from whook_conductor.resolver import Resolver
from whook_conductor.routes import RouteTable, sync_routes
from whook_conductor.settings import ConductorSettings
from whook_conductor.sockets import close_all, keep_alive
from whook_conductor.trunks import Trunks

_API_BODY: Final = 65_536
"""Longest body of an API request in bytes: a tunnel is asked for in about a hundred."""

_HISTORY_SECONDS: Final = 5.0
"""How long the end of a conductor waits for the last news to be recorded."""
_API_BACKLOG: Final = 512
"""Connections to the API that wait to be accepted. A client waits 15 s for an answer: in a longer queue a
conductor that is short of CPU would answer only those that have given up."""

START_PATIENCE: Final = 10.0
"""Seconds that a start waits for the directory and the trunks, before it counts as started without them: a
supervisor that gave up on it would only start it again."""
_POLICIES_TIME: Final = 5.0
"""Seconds that a start waits for the projects' policies. Without them the default one counts: webhooks come
through although the store of projects is down."""

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
    queue: Queue,
    blobs: Blobs,
    history: History,
    journal: Journal,
    drain: Drain,
    readiness: Readiness,
    outcome_consumers: Sequence[Consumer] = (),
    tracer: Tracer | None = None,
    task_status: trio.TaskStatus[ConductorPorts] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a conductor until its drain is over.

    Started once it knows all routes and has tried its trunks, or after `START_PATIENCE` without: then it is
    unready until it does. `outcome_consumers` get what became of every
    request, in batches, beside the metrics. `tracer` takes the spans of webhooks.

    Raises:
        ListenError: an address is taken or unusable.
        ValueError: there is no cluster key.
    """
    if not settings.cluster_key.get_secret_value():
        raise ValueError("cluster_key is not set: without it anyone could pass for a relay")
    with ExitStack() as sockets:
        ingress_listeners = await open_listeners(settings.listen, what="webhooks", option="--port")
        sockets.callback(close_all, ingress_listeners)
        keep_alive(ingress_listeners)
        api_listeners = await open_listeners(
            settings.api, what="the API", option="--api-port", backlog=_API_BACKLOG
        )
        sockets.callback(close_all, api_listeners)
        ports = ConductorPorts(
            ingress_address=bound_address(ingress_listeners),
            ingress_port=bound_port(ingress_listeners),
            api_address=bound_address(api_listeners),
            api_port=bound_port(api_listeners),
            public_url=partial(settings.public_url, ingress_port=bound_port(ingress_listeners)),
        )
        events = make_events_service(
            settings,
            auth=auth,
            projects=projects,
            history=history,
            blobs=blobs,
            queue=queue,
            drain=drain,
        )
        history = events.history
        parts = _Parts(
            settings,
            directory,
            bus,
            projects,
            queue,
            blobs,
            history,
            journal,
            drain,
            outcome_consumers,
            tracer,
        )
        control = Control(
            auth=auth,
            projects=projects,
            queue=queue,
            backlogs=parts.backlogs,
            cache=parts.cache,
            table=parts.table,
            resolver=parts.resolver,
            placement=parts.placement,
            admission=parts.admission,
            public_url=ports.public_url,
            drain=drain,
        )
        admin = Admin(
            auth=auth,
            directory=directory,
            bus=bus,
            projects=projects,
            queue=queue,
            history=history,
            table=parts.table,
        )
        with parts.published(readiness):
            async with trio.open_nursery() as infrastructure:
                infrastructure.start_soon(parts.recorder.run, name="outcome recorder")
                infrastructure.start_soon(parts.history.run, name="history")
                infrastructure.start_soon(parts.queue_size.run, name="queue size")
                infrastructure.start_soon(parts.trunks.run, name="trunks")
                infrastructure.start_soon(events.run, name="followers")
                with trio.move_on_after(_POLICIES_TIME):
                    await parts.policies_known(infrastructure, bus)
                await infrastructure.start(sync_backlogs, parts.backlogs, queue, bus, name="backlog sync")
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
                    handlers.start_soon(parts.dispatcher.run, name="dispatcher")
                    inherited = is_inherited(settings.listen)
                    serve = partial(
                        serve_tcp,
                        parts.ingress.handle,
                        ingress_listeners,
                        name="ingress",
                        drain=drain,
                        limits=TcpLimits(
                            settings.max_connections, settings.max_connections_per_address or None
                        ),
                        refusal=REFUSAL,
                        introduction=introduction(settings),
                        inherited=inherited,
                    )
                    if not inherited:
                        await handlers.start(serve)
                    await handlers.start(
                        partial(
                            serve_asgi,
                            _app(settings, control, [events.router, admin_router(admin)]),
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
                    if inherited:
                        await handlers.start(serve)
                    task_status.started(ports)
                    _log.info("conductor ready", ingress=ports.ingress_address, api=ports.api_address)
                    await drain.wait()
                    handlers.cancel_scope.deadline = drain.deadline
                parts.recorder.flush()
                await parts.history.finish(_HISTORY_SECONDS)
                infrastructure.cancel_scope.cancel(reason="the conductor has drained")


def _app(settings: ConductorSettings, control: Control, routers: Sequence[APIRouter]) -> App:
    """Return the API, with the way for tunnels in front."""
    trusted = settings.trusted_proxies
    api = build_api(control, auth_url=settings.auth_url, trusted_proxies=trusted, routers=routers)
    return QuickTunnels(api, control, trusted_proxies=trusted)


class _Parts:
    """What a conductor is made of, put together. Nothing runs yet."""

    def __init__(
        self,
        settings: ConductorSettings,
        directory: Directory,
        bus: Bus,
        projects: Projects,
        queue: Queue,
        blobs: Blobs,
        history: History,
        journal: Journal,
        drain: Drain,
        consumers: Sequence[Consumer],
        tracer: Tracer | None = None,
    ) -> None:
        instance = new_id("cnd")
        self.totals = RequestTotals()
        capture = None
        if settings.history:
            capture = CaptureLimits(max_body=settings.history_max_body, scheme=settings.public_scheme)
        self.history = HistoryRecorder(history, journal, settings, capture, queue.backlogs)
        self.recorder = OutcomeRecorder(
            [self.totals.add, OutcomeLog(tracer, trio.current_time).take, *consumers, self.history.take],
            dropping=self.history.drop,
        )
        self.table = RouteTable()
        self.cache = ProjectCache(
            projects,
            ttl=settings.project_ttl,
            unknown_ttl=settings.unknown_project_ttl,
            max_unknown=settings.max_unknown_projects,
        )
        self.resolver = Resolver(self.table, self.cache, directory)
        self.admission = Admission(settings.tunnels_per_second, settings.max_tunnel_requests)
        self.trunks = Trunks(
            settings.cluster_key.get_secret_value().encode(),
            agent=f"whook/{metrics.version()}",
            instance=instance,
            max_exchanges=settings.max_exchanges,
            connect_timeout=settings.trunk_connect_timeout,
            cap=settings.trunk_retry_cap,
        )
        self.placement = Placement(trio.current_time, held=self.table.count, reachable=self.trunks.is_up)
        self.table.on_route.append(self.placement.landed)
        self.backlogs = BacklogTable()
        self.queue_size = QueueSize(queue)
        self.buffering = Buffering(queue, blobs, bus, self.backlogs, settings)
        self.dispatcher = Dispatcher(
            owner=instance,
            queue=queue,
            history=history,
            bus=bus,
            backlogs=self.backlogs,
            table=self.table,
            policies=self.cache.policies,
            courier=Courier(
                table=self.table,
                resolver=self.resolver,
                trunks=self.trunks,
                recorder=self.recorder,
                blobs=blobs,
                deadline=settings.request_deadline,
            ),
            memory=settings.delivery_memory,
            drain=drain,
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
                policies=self.cache.policies,
                backlogs=self.backlogs,
                buffering=self.buffering,
                capture=capture,
                traced=tracer is not None,
            )
        )

    async def policies_known(self, infrastructure: trio.Nursery, bus: Bus) -> None:
        """Follow the projects; return when their policies are known for the first time."""
        known = trio.Event()

        async def follow() -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(sync_projects, self.cache, bus)
                known.set()

        infrastructure.start_soon(follow, name="project sync")
        await known.wait()

    @contextmanager
    def published(self, readiness: Readiness) -> Generator[None]:
        """Publish metrics and readiness as long as the block runs."""
        table, malformed = self.table, self.ingress.malformed
        with metrics.Publisher() as to:
            to.gauge("whook_routes", "Routes known.", lambda: len(table))
            to.gauge("whook_routes_behind", "1 while routes may be out of date.", lambda: not table.ready)
            self.trunks.publish(to)
            busy = "Requests for a tunnel that were told to come back later."
            to.counter("whook_conductor_busy", busy, lambda: self.admission.refused)
            unreadable = "Requests that could not be read, by the status of the answer."
            to.counts("whook_requests_malformed", unreadable, malformed, "status")
            self.queue_size.publish(to)
            self.dispatcher.lease.publish(to, "dispatcher")
            held = "Bytes of webhooks held in memory, by what for."
            for place, read in (
                ("upload", self.buffering.budget.held),
                ("delivery", self.dispatcher.memory.held),
                ("history", self.history.held),
            ):
                to.gauge("whook_held_bytes", held, read, place=place)
            for published in (
                self.totals.publish(self.recorder),
                self.buffering.published(),
                self.dispatcher.published(),
                self.history.published(),
            ):
                to.enter_context(published)
            to.enter_context(readiness.check("routes", table.check))
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
