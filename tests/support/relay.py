"""A real relay in the test's own loop: sockets, WebSockets, trunks; directory and bus in memory.

`open_relay` runs one and, when the block has ended, lets it drain and checks that its tables are empty.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from unittest import mock

import trio

from tests.support.deadlines import DEADLINE
from tests.support.links import Handler, echo, until
from tests.support.wire_talk import request
from whook.backplane.memory import open_memory_backplane
from whook.backplane.ports import Backplane, Bus, Directory, Unavailable
from whook.chassis.drain import Drain
from whook.chassis.readiness import Readiness
from whook.chassis.tunnel_token import SigningKey, TunnelClaims, Verifier, jwks, sign
from whook.link import (
    Answerer,
    Exchange,
    Link,
    LinkRefused,
    Opener,
    StreamTransport,
    introduce_conductor,
)
from whook.link.websocket import connect_websocket
from whook.wire import PROTOCOL_VERSION, GoAway, Hello, Mode, encode_goaway, encode_hello
from whook_relay import service
from whook_relay.observed import ObservedSwitch
from whook_relay.service import RelayPorts, run_relay
from whook_relay.settings import RelaySettings

CLUSTER_KEY = "the cluster key of the tests"
SIGNING_KEY = SigningKey.generate()


def token(
    project: str = "shop",
    *,
    relay_id: str = "relay-1",
    lifetime: int = 3600,
    user_id: str = "usr_1",
    token_id: str = "tok_1",
    key: SigningKey = SIGNING_KEY,
) -> str:
    """Sign a tunnel token; its project's id is `prj_` and the name."""
    claims = TunnelClaims.issue(
        user_id=user_id,
        project_id=f"prj_{project}",
        project=project,
        relay_id=relay_id,
        token_id=token_id,
        lifetime=lifetime,
    )
    return sign(key, claims)


@dataclass
class Client:
    """A tunnel that a relay has taken."""

    link: Link
    hello: Hello
    answerer: Answerer
    goaways: list[GoAway] = field(default_factory=list)

    @property
    def route(self) -> bytes:
        """What a conductor names it by."""
        return self.hello.tunnel_id.encode()

    @property
    def codes(self) -> list[int]:
        """Codes of the GOAWAYs so far."""
        return [goaway.code for goaway in self.goaways]

    async def ended(self) -> str:
        """Wait until the link has ended; give its reason."""
        await until(lambda: self.link.closed)
        return self.link.close_reason


def hello(
    instance: str = "cli_1",
    holder: str = "ada@laptop",
    mode: Mode = "exclusive",
    version: int = PROTOCOL_VERSION,
) -> Hello:
    """Give a client's introduction."""
    return Hello(version=version, agent="test/1", peer="cli", instance=instance, holder=holder, mode=mode)


class Relay:
    """A running relay."""

    def __init__(self, backplane: Backplane, settings: RelaySettings, grace: float) -> None:
        self.backplane = backplane
        self.bus = backplane.bus
        self.settings = settings
        self.drain = Drain(grace)
        self.readiness = Readiness(self.drain)
        self.ports = RelayPorts("", "")
        self.ended = trio.Event()
        self._switches: list[ObservedSwitch] = []

    @property
    def switch(self) -> ObservedSwitch:
        """Its tables."""
        return self._switches[0]

    async def run(
        self,
        directory: Directory | None = None,
        verifier: Verifier | None = None,
        refresh_keys: Callable[[], Awaitable[None]] | None = None,
        *,
        task_status: trio.TaskStatus[RelayPorts] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run until it has drained."""

        def made(**options: Any) -> ObservedSwitch:
            self._switches.append(ObservedSwitch(**options))
            return self._switches[-1]

        with mock.patch.object(service, "ObservedSwitch", made):
            await run_relay(
                self.settings,
                directory=directory or self.backplane.directory,
                bus=self.bus,
                verifier=verifier or Verifier(jwks([SIGNING_KEY])),
                refresh_keys=refresh_keys,
                drain=self.drain,
                readiness=self.readiness,
                task_status=task_status,
            )
        self.ended.set()

    @property
    def tables(self) -> dict[str, int]:
        """How much is in each of the switch's tables, the empty ones left out."""
        switch = self.switch
        sizes = {
            "tunnels": len(switch.tunnels),
            "routes": len(switch.routes),
            "by_project": len(switch.by_project),
            "watchers": len(switch.watchers),
            "trunks": len(switch.trunks),
            "circuits": sum(len(tunnel.circuits) for tunnel in switch.tunnels.values()),
            "observed": len(switch._seen),
            "trunk circuits": sum(len(trunk.circuits) for trunk in switch.trunks),
        }
        return {name: size for name, size in sizes.items() if size}

    @property
    def circuits(self) -> int:
        """Exchanges in its tables, which must agree about them."""
        tables = self.tables
        assert tables.get("circuits", 0) == tables.get("trunk circuits", 0)
        return tables.get("circuits", 0)

    async def holder(self, project: str = "shop") -> str:
        """Id of the tunnel to which the directory's route of a project leads, or nothing."""
        route = await self.backplane.directory.route(f"prj_{project}")
        return route.tunnel_id if route else ""

    # -- those who connect ----------------------------------------------------------------------------

    @asynccontextmanager
    async def dial(self, **claims: object) -> AsyncGenerator[Link]:
        """Open a WebSocket with a token, and say nothing yet."""
        bearer = token(relay_id=self.settings.relay_id, **claims)  # type: ignore[arg-type]
        async with connect_websocket(
            self.ports.tunnel_url,
            headers=[(b"Authorization", f"Bearer {bearer}".encode())],
            timeout=DEADLINE,
        ) as transport:
            yield Link(transport, name="client")

    async def refusal(self, introduction: Hello | None = None, **claims: object) -> GoAway:
        """Introduce a client, which must be refused with a GOAWAY."""
        async with self.dial(**claims) as link:
            await link.send_now(encode_hello(introduction or hello()))
            try:
                with trio.fail_after(DEADLINE):
                    answer = await link.receive_hello()
            except LinkRefused as refused:
                return refused.goaway
            raise AssertionError(f"it was taken: {answer}")

    @asynccontextmanager
    async def client(
        self, handler: Handler = echo, introduction: Hello | None = None, **claims: object
    ) -> AsyncGenerator[Client]:
        """Open a tunnel that answers exchanges with `handler`; it closes with the block."""
        async with self.dial(**claims) as link, trio.open_nursery() as nursery:
            await link.send_now(encode_hello(introduction or hello()))
            with trio.fail_after(DEADLINE):
                answer = await link.receive_hello()
            goaways: list[GoAway] = []
            answerer = Answerer(link, handler, on_goaway=goaways.append)
            nursery.start_soon(answerer.run)
            yield Client(link, answer, answerer, goaways)
            link.close("the test has ended")

    @asynccontextmanager
    async def conductor(self, key: str = CLUSTER_KEY) -> AsyncGenerator[Opener]:
        """Open a trunk; it closes with the block."""
        host, _, port = self.ports.trunk_url.removeprefix("tcp://").rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            link = Link(StreamTransport(stream), name="trunk")
            with trio.fail_after(DEADLINE):
                await introduce_conductor(link, key.encode(), agent="test/1", instance="con_1")
            opener = Opener(link, on_goaway=lambda goaway: link.send(encode_goaway(goaway.code, "yes")))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(opener.run)
                yield opener
                link.close("the test has ended")


class Faulty:
    """A directory whose methods named in `broken` are unavailable; those in `late` act before they say so."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.broken: set[str] = set()
        self.late: set[str] = set()
        self.failed = 0

    def seen(self, _: Directory) -> Directory:
        """Give this to `open_relay`."""
        return cast("Directory", self)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        call = getattr(self._directory, name)

        async def maybe(*args: object, **kwargs: object) -> object:
            if name not in self.broken:
                result = await call(*args, **kwargs)
                if name not in self.late:
                    return result
            self.failed += 1
            raise Unavailable(f"{name}: the test says so")

        return maybe


@asynccontextmanager
async def open_relay(
    *,
    backplane: Backplane | None = None,
    directory: Callable[[Directory], Directory] | None = None,
    bus: Bus | None = None,
    grace: float = DEADLINE,
    verifier: Verifier | None = None,
    refresh_keys: Callable[[], Awaitable[None]] | None = None,
    **settings: object,
) -> AsyncGenerator[Relay]:
    """Run a relay during the block.

    `directory` may wrap the directory that it sees, and `bus` be one on which it hears nothing of the routes.
    `verifier` and `refresh_keys` are its keys and what brings them up to date.
    """
    options = {"trunk_listen": "127.0.0.1:0", "listen": "127.0.0.1:0", "cluster_key": CLUSTER_KEY} | settings
    async with AsyncExitStack() as stack:
        if backplane is None:
            backplane = await stack.enter_async_context(open_memory_backplane())
        relay = Relay(backplane, RelaySettings.model_validate(options), grace)
        relay.bus = bus or relay.bus
        seen = directory(backplane.directory) if directory else backplane.directory
        nursery = await stack.enter_async_context(trio.open_nursery())
        relay.ports = await nursery.start(partial(relay.run, seen, verifier, refresh_keys))
        yield relay
        relay.drain.begin("the test has ended")
        with trio.fail_after(DEADLINE):
            await relay.ended.wait()
        assert relay.tables == {}


def opened(opener: Opener, client: Client | bytes, body: bytes = b"", *, end: bool = True) -> Exchange:
    """Open an exchange towards a tunnel."""
    route = client if isinstance(client, bytes) else client.route
    return opener.open(route, request(), body=body, end=end)
