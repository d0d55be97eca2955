"""Twenty thousand idle tunnels cost Redis nothing; only their relay's heartbeat does."""

from __future__ import annotations

import trio

from tests.support.claims import LONG, claim, relay
from tests.support.deadlines import DEADLINE
from tests.support.mirror import TOPICS
from tests.support.redis_server import RedisServer
from whook.backplane.redis import RedisBus, RedisDirectory, scripts
from whook.backplane.redis.bridge import open_bridge

IDLE = 20_000
HEARTBEATS = 5
CLAIMERS = 8


async def calls_of_heartbeats(server: RedisServer, directory: RedisDirectory) -> dict[str, int]:
    """Return which commands Redis has run, and how often, for some heartbeats and sweeps."""
    with server.client() as client:
        client.config_resetstat()
        for _ in range(HEARTBEATS):
            assert await directory.announce(relay(), LONG) is True
            await directory._run(scripts.SWEEP, 500)
        stats: dict[str, dict[str, int]] = client.info("commandstats")  # type: ignore[assignment]
    return {name: values["calls"] for name, values in stats.items()}


async def fill(directory: RedisDirectory) -> None:
    names = iter(range(IDLE))

    async def claimer() -> None:
        for n in names:
            await claim(directory, f"p{n}", instance=f"laptop{n}")

    with trio.fail_after(DEADLINE * 2):
        async with trio.open_nursery() as nursery:
            for _ in range(CLAIMERS):
                nursery.start_soon(claimer)


async def test_idle_routes_add_no_traffic(server: RedisServer) -> None:
    async with open_bridge(server.url) as bridge:
        directory = RedisDirectory(bridge, "whook:")
        await directory.announce(relay(), LONG)
        await calls_of_heartbeats(server, directory)  # scripts are known from here on
        alone = await calls_of_heartbeats(server, directory)
        assert alone["cmdstat_evalsha"] == 2 * HEARTBEATS
        await fill(directory)
        assert await calls_of_heartbeats(server, directory) == alone

        routes = await directory.routes()
        assert len({route.project_id for route in routes}) == len(routes) == IDLE

        # The relay goes: one event tells of all its routes.
        async with trio.open_nursery() as nursery:
            bus = RedisBus(bridge, "whook:")
            await nursery.start(bus.run)
            async with bus.subscribe(*TOPICS) as subscription:
                await directory.withdraw("r1")
                assert await directory.routes() == []
                await bus.publish(TOPICS[1], b"")
                topics = [(await subscription.__anext__())[0] for _ in range(2)]
                assert topics == list(TOPICS)
            nursery.cancel_scope.cancel()
        remaining = 1
        with trio.fail_after(DEADLINE):
            while remaining:
                [left] = await directory._run(scripts.SWEEP, 500)
                remaining = int(left)
        with server.client() as client:
            assert not client.exists("whook:routes")
