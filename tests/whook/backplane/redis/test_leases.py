"""Leases end for everybody at once, whoever notices; and their routes go in small pieces."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import trio

from tests.support.claims import LONG, claim, reclaim, relay, wait_message
from tests.support.deadlines import DEADLINE
from tests.support.mirror import TOPICS, RouteMirror
from tests.support.redis_server import RedisServer
from whook.backplane.ports import TOPIC_RELAYS, RelayGone, RouteSet, decode_relay_event
from whook.backplane.redis import RedisDirectory, open_redis_backplane, scripts
from whook.backplane.redis.bridge import open_bridge

ROOT = Path(__file__).parents[4]
PROGRAM = "tests.whook.backplane.redis.relay_program"


async def test_the_lease_of_a_killed_process_ends(server: RedisServer) -> None:
    async with (
        open_redis_backplane(server.url) as one,
        open_redis_backplane(server.url) as two,
        one.bus.subscribe(*TOPICS) as first,
        two.bus.subscribe(*TOPICS) as second,
    ):
        await one.directory.announce(relay("r1"), LONG)
        mine = await claim(one.directory, "mine")
        mirrors = [RouteMirror(one, first), RouteMirror(two, second)]
        command = [sys.executable, "-m", PROGRAM, server.url, "3.0", "shop", "blog"]
        async with trio.open_nursery() as nursery:
            start = partial(trio.run_process, cwd=ROOT, stdout=subprocess.PIPE, check=False)
            process: trio.Process = await nursery.start(start, command)
            assert process.stdout is not None
            with trio.fail_after(DEADLINE):
                assert await process.stdout.receive_some() == b"ready\n"
            for mirror in mirrors:
                await mirror.catch_up()
                assert set(mirror.routes) == {"prj_mine", "prj_shop", "prj_blog"}
            process.kill()
        for mirror in mirrors:
            assert isinstance(await mirror.wait_event(), RelayGone)
            assert mirror.routes == {"prj_mine": mine}
        assert await two.directory.routes() == [mine]
        assert await two.directory.relays() == [relay("r1")]


async def test_the_end_is_published_once_however_many_look(server: RedisServer) -> None:
    async with (
        open_redis_backplane(server.url) as one,
        open_redis_backplane(server.url) as two,
        one.bus.subscribe(TOPIC_RELAYS) as subscription,
    ):
        await one.directory.announce(relay(), 0.05)
        async with trio.open_nursery() as nursery:
            for backplane in (one, two) * 10:
                nursery.start_soon(backplane.directory.routes)
        await two.directory.announce(relay("last"), LONG)
        seen: Counter[str] = Counter()
        while not seen["last"] or not seen["gone"]:
            event = decode_relay_event((await wait_message(subscription))[1])
            seen["gone" if isinstance(event, RelayGone) else event.relay.id] += 1
        assert seen == {"r1": 1, "gone": 1, "last": 1}


async def test_routes_of_ended_leases_go_in_batches_and_none_else(server: RedisServer) -> None:
    async with open_bridge(server.url) as bridge:
        directory = RedisDirectory(bridge, "whook:")  # nobody sweeps but this test
        await directory.announce(relay("r1"), LONG)
        await directory.announce(relay("r2"), LONG)
        routes = [await claim(directory, f"p{n}") for n in range(25)]
        await directory.withdraw("r1")
        moved = await claim(directory, "p0", by="r2")
        await directory.announce(relay("r1"), LONG)
        back = await reclaim(directory, routes[1])
        standing = sorted([moved.project_id, back.project_id])
        with server.client() as client:
            assert client.hlen("whook:routes") == 25
            left: list[int] = []
            with trio.fail_after(DEADLINE):
                while True:
                    [remaining] = await directory._run(scripts.SWEEP, 10)
                    left.append(client.hlen("whook:routes"))  # type: ignore[arg-type]
                    assert sorted(route.project_id for route in await directory.routes()) == standing
                    if not int(remaining):
                        break
            assert left[-1] == 2
            assert all(before - after <= 10 for before, after in zip([25, *left], left, strict=False))
            # Two live leases hold one route each; nothing is left of the one that ended.
            assert len(client.keys("whook:held:*")) == 2  # type: ignore[arg-type]
            assert not client.exists("whook:ended")


async def test_a_relay_that_was_given_up_starts_anew(server: RedisServer) -> None:
    async with (
        open_redis_backplane(server.url) as backplane,
        backplane.bus.subscribe(*TOPICS) as subscription,
    ):
        directory = backplane.directory
        mirror = RouteMirror(backplane, subscription)
        assert await directory.announce(relay(), 0.5) is False
        route = await claim(directory)
        while not isinstance(await mirror.wait_event(), RelayGone):
            pass
        assert await directory.announce(relay(), LONG) is False
        back = await reclaim(directory, route)
        assert await mirror.wait_event() == RouteSet(back)
        assert mirror.routes == {back.project_id: back}
