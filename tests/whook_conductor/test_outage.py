"""Without the directory: what a conductor that knows routes does, and one that has never known any."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio

from tests.support.async_http import connect, request
from tests.support.conductor import (
    KEY,
    REJECT,
    DictProjects,
    FarEnd,
    TableAuth,
    open_conductor,
    relay_info,
)
from tests.support.conductor_stores import open_stored
from tests.support.links import until
from tests.support.relay import Faulty
from whook.backplane.memory import MemoryBus, MemoryJournal, open_memory_backplane
from whook.backplane.ports import TOPIC_ROUTES, RouteGone, encode_event
from whook.chassis.drain import Drain
from whook.chassis.readiness import Degraded, Readiness
from whook_conductor import service
from whook_conductor.service import ConductorPorts, run_conductor
from whook_conductor.settings import ConductorSettings

ALL = {"routes", "relays", "route"}
ADA = {"Authorization": "Bearer whk_ada"}


async def new_tunnel(ports: ConductorPorts, **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{ports.api_address}", trust_env=False) as client:
        return await client.post("/v1/tunnels", json={"project": "shop", **more}, headers=ADA)


async def webhook(ports: ConductorPorts) -> Any:
    async with connect(ports.ingress_port) as client:
        await client.send(request("POST", "/", "Content-Length: 0"))
        return await client.read_response(b"POST")


async def test_known_routes_go_on_and_new_tunnels_are_refused() -> None:
    """The policy for Redis: degraded, so that a load balancer keeps every conductor."""
    faults: list[Faulty] = []

    def faulty(directory: Any) -> Any:
        faults.append(Faulty(directory))
        return faults[0].seen(directory)

    bus = MemoryBus(buffer=1)
    async with open_conductor(directory=faulty, bus=bus, relay_refresh=0.05) as rig:
        rig.auth.owners["shop"] = "ada"
        assert (await webhook(rig.ports)).status == 200
        faults[0].broken |= ALL
        for _ in range(3):
            bus.publish_nowait(TOPIC_ROUTES, encode_event(RouteGone("prj_other", 1)))  # too many: a gap
        await until(lambda: bool(rig.readiness.degraded))
        assert rig.readiness.ready
        found = rig.readiness.evaluate()["routes"]
        assert isinstance(found, Degraded)
        assert "the test says so" in found.reason
        assert (await webhook(rig.ports)).status == 200
        refused = await new_tunnel(rig.ports)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:whook:problem:unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert rig.auth.minted == []
        assert (await new_tunnel(rig.ports, watch=True)).status_code == 200, "an onlooker claims nothing"

        faults[0].broken.clear()
        await until(lambda: not rig.readiness.degraded)
        assert rig.readiness.ready
        assert (await new_tunnel(rig.ports)).status_code == 200


async def test_a_start_without_the_directory_listens_says_503_and_heals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It neither hangs nor ends, nor does it take anything for unknown."""
    monkeypatch.setattr(service, "START_PATIENCE", 0.1)
    projects, auth, far = DictProjects(), TableAuth(), FarEnd()
    projects.policy = REJECT
    await projects.create("shop")
    auth.owners["shop"] = "ada"
    async with (
        open_memory_backplane() as backplane,
        open_stored(backplane.bus) as stored,
        trio.open_nursery() as nursery,
    ):
        faulty = Faulty(backplane.directory)
        faulty.broken |= ALL
        await nursery.start(far.serve)
        await backplane.directory.announce(relay_info("rly", far.port), 1e6)
        drain = Drain(5.0)
        readiness = Readiness(drain)

        async def run(*, task_status: trio.TaskStatus[ConductorPorts]) -> None:
            await run_conductor(
                ConductorSettings.model_validate(
                    {"listen": "127.0.0.1:0", "api": "127.0.0.1:0", "cluster_key": KEY, "relay_refresh": 0.05}
                ),
                directory=faulty.seen(backplane.directory),
                bus=backplane.bus,
                projects=projects,
                auth=auth,
                queue=stored.queue,
                blobs=stored.blobs,
                history=stored.history,
                journal=MemoryJournal(),
                drain=drain,
                readiness=readiness,
                task_status=task_status,
            )

        ports: ConductorPorts = await nursery.start(run)
        assert not readiness.ready
        assert "no routes yet" in str(readiness.evaluate()["routes"])
        answer = await webhook(ports)
        assert answer.status == 503
        assert b"urn:whook:problem:unavailable" in answer.body
        assert (await new_tunnel(ports)).status_code == 503

        faulty.broken.clear()
        await until(lambda: readiness.ready)
        nursery.cancel_scope.cancel()
