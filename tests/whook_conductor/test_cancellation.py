"""A connection that is cancelled, in whatever phase, leaves nothing in the exchange table and one outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import trio
import trio.testing

from tests.support.async_http import Client, get, post, request
from tests.support.conductor import (
    KEY,
    FarEnd,
    Handler,
    answer,
    echo,
    head,
    read_body,
    relay_info,
)
from tests.support.conductor_stores import DictProjects, open_stored
from tests.support.deadlines import DEADLINE
from whook.backplane.memory import MemoryJournal, open_memory_backplane
from whook.backplane.ports import Project, Route
from whook.chassis.drain import Drain
from whook.chassis.tcp import Peer
from whook.link import Exchange
from whook.wire import Response
from whook_conductor.outcomes import Outcome
from whook_conductor.service import _Parts
from whook_conductor.settings import ConductorSettings


async def silent(exchange: Exchange) -> None:
    await read_body(exchange)
    await trio.sleep_forever()


async def deaf(_: Exchange) -> None:
    await trio.sleep_forever()


async def streaming(exchange: Exchange) -> None:
    head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
    await exchange.send_data(b"abc")
    await trio.sleep_forever()


async def flooding(exchange: Exchange) -> None:
    head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
    while True:
        await exchange.send_data(b"x" * 65_536)


async def early(exchange: Exchange) -> None:
    await answer(exchange, b"no", 403)
    await trio.sleep_forever()


async def switching(exchange: Exchange) -> None:
    exchange.send_head(Response(101, b"Switching Protocols", []))
    await trio.sleep_forever()


class StuckProjects(DictProjects):
    async def get(self, name: str) -> Project | None:
        await trio.sleep_forever()
        return None


@dataclass(frozen=True)
class Phase:
    name: str
    data: bytes
    handler: Handler = echo
    result: str | None = "aborted"
    route: str = "shop"
    projects: Callable[[], DictProjects] = DictProjects
    fill: bool = False


UPGRADE = get("/", "Connection: Upgrade", "Upgrade: websocket")
HALF = request("POST", "/", "Content-Length: 6") + b"abc"
PHASES = [
    Phase("idle", b"", result=None),
    Phase("in-the-head", b"GET / HT", result=None),
    Phase("looking-up-the-project", get(), route="other", projects=StuckProjects),
    Phase("waiting-for-the-trunk", get(host="far.localhost")),
    Phase("waiting-for-the-answer", get(), silent),
    Phase("waiting-for-the-body", HALF, silent),
    Phase("waiting-for-credit", post(b"x" * 1_000_000), deaf),
    Phase("in-the-response", get(), streaming),
    Phase("in-the-response-and-the-body", HALF, streaming),
    Phase("writing-to-nobody", get(), flooding),
    Phase("lingering", HALF, early, result="answered"),
    Phase("before-101", UPGRADE, deaf),
    Phase("upgraded", UPGRADE, switching),
]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
async def test_nothing_is_left(phase: Phase) -> None:
    far = FarEnd(phase.handler)
    outcomes: list[Outcome] = []
    settings = ConductorSettings(cluster_key=KEY, trunk_wait=1000)
    async with (
        open_memory_backplane() as backplane,
        open_stored(backplane.bus) as stored,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(far.serve)
        parts = _Parts(
            settings,
            backplane.directory,
            backplane.bus,
            phase.projects(),
            stored.queue,
            stored.blobs,
            stored.history,
            MemoryJournal(),
            Drain(),
            [outcomes.extend],
        )
        nursery.start_soon(parts.trunks.run)
        parts.trunks.update([relay_info("rly", far.port)])
        with trio.fail_after(DEADLINE):
            await parts.trunks.wait_up("rly")
        for project, relay in ((phase.route, "rly"), ("far", "away")):
            parts.table.learn(
                Route(
                    project_id=f"prj_{project}",
                    project=project,
                    relay_id=relay,
                    tunnel_id="tun",
                    generation=1,
                    instance="i",
                    holder="h",
                )
            )
        # The directory agrees that `far` is held by a relay to which no trunk ever comes up.
        await backplane.directory.announce(relay_info("away", 1), 1e6)
        await backplane.directory.claim(
            project_id="prj_far", project="far", relay_id="away", tunnel_id="tun", instance="i", holder="h"
        )
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        stream = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        served = await listener.accept()
        async with trio.open_nursery() as connection:
            connection.start_soon(partial(parts.ingress.handle, served, Peer("127.0.0.1", 1)))
            async with trio.open_nursery() as sending:
                sending.start_soon(Client(stream).send, phase.data)
                await trio.testing.wait_all_tasks_blocked(0.02)
                connection.cancel_scope.cancel()
                sending.cancel_scope.cancel()
        assert parts.trunks.active == 0
        with trio.fail_after(DEADLINE):
            while far.running:
                await trio.testing.wait_all_tasks_blocked(0.001)
        assert not parts.ingress._idle
        parts.recorder.flush()
        assert [outcome.result for outcome in outcomes] == ([] if phase.result is None else [phase.result])
        stream.socket.close()
        served.socket.close()
        listener.socket.close()
        nursery.cancel_scope.cancel()
