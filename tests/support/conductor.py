"""A whole conductor in the test's own loop, with a far end that the test scripts.

The far end is what stands behind a trunk, relay and CLI in one: it speaks the real wire over a real socket
and runs the test's handler for each exchange. Backplane in memory, the queue in SQLite, projects in a dict,
auth in a table.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.testing

from tests.support.async_http import Client, connect
from tests.support.conductor_stores import DictProjects, Stored, TableAuth, open_stored
from tests.support.deadlines import DEADLINE
from whook.backplane.memory import MemoryJournal, open_memory_backplane
from whook.backplane.ports import (
    Backplane,
    ProjectPolicy,
    Queue,
    RelayInfo,
    Route,
)
from whook.chassis.drain import Drain
from whook.chassis.metrics import REGISTRY
from whook.chassis.readiness import Readiness
from whook.link import (
    Answerer,
    Data,
    End,
    Exchange,
    ExchangeReset,
    Link,
    LinkClosed,
    LinkRefused,
    StreamTransport,
    TrunkRefused,
    introduce_relay,
)
from whook.wire import Headers, Response
from whook_conductor.outcomes import Outcome
from whook_conductor.service import ConductorPorts, run_conductor
from whook_conductor.settings import ConductorSettings

KEY = "a key for tests"
REJECT = ProjectPolicy(buffer=False)
Handler = Callable[[Exchange], Awaitable[None]]


async def read_body(exchange: Exchange) -> tuple[bytes, Headers]:
    """Read the rest of a request: its body and trailers."""
    body = b""
    if exchange.request_ended:
        return body, []
    while True:
        item = await exchange.receive()
        if isinstance(item, Data):
            body += item.data
        if isinstance(item, End):
            return body, item.trailers
        if item.ended:
            return body, []


def head(exchange: Exchange, status: int, *headers: tuple[bytes, bytes], end: bool = False) -> None:
    """Send a response head."""
    exchange.send_head(Response(status, b"OK", list(headers)), end=end)


async def answer(exchange: Exchange, body: bytes = b"ok", status: int = 200) -> None:
    """Send a whole response with Content-Length."""
    head(exchange, status, (b"Content-Length", b"%d" % len(body)), end=not body)
    if body:
        await exchange.send_data(body, end=True)


async def echo(exchange: Exchange) -> None:
    """Read the request, send its body back."""
    body, _ = await read_body(exchange)
    await answer(exchange, body)


class FarEnd:
    """A relay whose every tunnel is the test's handler."""

    def __init__(self, handler: Handler = echo) -> None:
        self.handler = handler
        self.answerers: list[Answerer] = []
        self.key = KEY.encode()
        self.port = 0
        self.refused = trio.Event()
        """A conductor did not prove itself, or would not talk to us."""

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept trunks for ever."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started(self.port)
        await trio.serve_listeners(self._trunk, [listener])

    async def _trunk(self, stream: trio.SocketStream) -> None:
        link = Link(StreamTransport(stream), name="far end")
        try:
            await introduce_relay(link, self.key, agent="test", instance="rly", heartbeat=20.0)
        except (LinkClosed, LinkRefused, TrunkRefused):
            self.refused.set()
            return
        answerer = Answerer(link, self._handle, max_exchanges=10_000)
        self.answerers.append(answerer)
        await answerer.run()

    async def _handle(self, exchange: Exchange) -> None:
        with contextlib.suppress(ExchangeReset):
            await self.handler(exchange)

    @property
    def running(self) -> int:
        """Handlers that have not returned."""
        return sum(answerer.running for answerer in self.answerers)

    def cut(self) -> None:
        """Cut every trunk."""
        for answerer in self.answerers:
            answerer.link.close("cut by the test")


def relay_info(
    name: str, port: int, *, load: int = 0, capacity: int = 100, draining: bool = False
) -> RelayInfo:
    """Return a relay as it announces itself."""
    return RelayInfo(
        id=name,
        tunnel_url=f"ws://{name}.test/v1/tunnel",
        trunk_url=f"tcp://127.0.0.1:{port}",
        capacity=capacity,
        load=load,
        version="test",
        draining=draining,
    )


@dataclass
class Rig:
    """A running conductor and what stands around it."""

    backplane: Backplane
    projects: DictProjects
    auth: TableAuth
    far: FarEnd
    drain: Drain
    readiness: Readiness
    ports: ConductorPorts
    stored: Stored
    outcomes: trio.MemoryReceiveChannel[Outcome]
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def queue(self) -> Queue:
        """The queue."""
        return self.stored.queue

    def client(self) -> Any:
        """Connect a sender."""
        return connect(self.ports.ingress_port)

    async def ask(self, data: bytes, method: bytes = b"GET") -> Any:
        """Send bytes on a connection of their own; return the response."""
        async with self.client() as client:
            assert isinstance(client, Client)
            await client.send(data)
            return await client.read_response(method)

    async def outcome(self) -> Outcome:
        """Wait for what became of the next request."""
        with trio.fail_after(DEADLINE):
            return await self.outcomes.receive()

    async def claim(self, name: str, relay: str = "rly", instance: str = "one") -> Route:
        """Have a tunnel for the project."""
        project = await self.projects.create(name)
        return await self.backplane.directory.claim(
            project_id=project.id,
            project=name,
            relay_id=relay,
            tunnel_id=f"tun_{name}_{relay}",
            instance=instance,
            holder="ada@test",
            takeover=True,
        )

    async def drain_and_wait(self) -> None:
        """Drain the conductor and wait for its end."""
        self.drain.begin("the test wants it")
        with trio.fail_after(DEADLINE):
            await self.ended.wait()

    async def settled(self) -> None:
        """Wait until no exchange is left at either end."""
        with trio.fail_after(DEADLINE):
            while self.far.running or self.exchanges:
                await trio.testing.wait_all_tasks_blocked(0.001)

    @property
    def exchanges(self) -> int:
        """Exchanges in the conductor's own tables."""
        return int(REGISTRY.get_sample_value("whook_exchanges") or 0)


@asynccontextmanager
async def open_conductor(
    handler: Handler = echo,
    *,
    tunnels: Sequence[str] = ("shop",),
    grace: float = 25.0,
    folder: Path | None = None,
    policy: ProjectPolicy | None = None,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """Run a conductor with a far end behind relay `rly`, which holds a tunnel for each of `tunnels`.

    Every project has the `policy`; the queue is in `folder`, if it is to outlast this conductor.
    """
    far = FarEnd(handler)
    projects, auth = DictProjects(), TableAuth()
    send, receive = trio.open_memory_channel[Outcome](10_000)

    def keep(batch: Sequence[Outcome]) -> None:
        for outcome in batch:
            send.send_nowait(outcome)

    async with (
        open_memory_backplane() as backplane,
        open_stored(backplane.bus, folder) as stored,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(far.serve)
        await backplane.directory.announce(relay_info("rly", far.port), 1e6)
        drain = Drain(grace)
        projects.bus = backplane.bus
        projects.policy = policy or ProjectPolicy()
        rig = Rig(backplane, projects, auth, far, drain, Readiness(drain), None, stored, receive)  # type: ignore[arg-type]
        for name in tunnels:
            await rig.claim(name)
        options = {"listen": "127.0.0.1:0", "api": "127.0.0.1:0", "cluster_key": KEY, **settings}

        async def run(*, task_status: trio.TaskStatus[ConductorPorts]) -> None:
            await run_conductor(
                ConductorSettings(**options),
                directory=backplane.directory,
                bus=backplane.bus,
                projects=projects,
                auth=auth,
                queue=stored.queue,
                blobs=stored.blobs,
                history=stored.history,
                journal=MemoryJournal(),
                drain=drain,
                readiness=rig.readiness,
                outcome_consumers=[keep],
                task_status=task_status,
            )
            rig.ended.set()

        rig.ports = await nursery.start(partial(run))
        yield rig
        nursery.cancel_scope.cancel()
