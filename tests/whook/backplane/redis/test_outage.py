"""Redis goes, and comes back: with what it had, with nothing, or with what it had an hour ago."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from tests.support.claims import LONG, claim, reclaim, relay, wait_gap
from tests.support.deadlines import DEADLINE
from tests.support.mirror import TOPICS, RouteMirror
from tests.support.redis_server import RedisServer
from whook.backplane.ports import (
    Backplane,
    Bus,
    BusGap,
    Directory,
    LeaseLost,
    Route,
    Subscription,
    Unavailable,
)
from whook.backplane.redis import open_redis_backplane


async def check_unavailable(backplane: Backplane, route: Route) -> None:
    """Every call raises Unavailable, all at the same time: none waits for the deadline of another."""
    directory = backplane.directory
    calls = [
        lambda: directory.announce(relay(), LONG),
        lambda: directory.withdraw("r1"),
        lambda: directory.relays(),
        lambda: claim(directory),
        lambda: reclaim(directory, route),
        lambda: directory.release(route.project_id, route.generation),
        lambda: directory.route(route.project_id),
        lambda: directory.routes(),
        lambda: backplane.bus.publish("a", b"x"),
    ]
    unavailable = 0

    async def check(index: int) -> None:
        nonlocal unavailable
        with pytest.raises(Unavailable, match="Redis"):
            await calls[index]()
        unavailable += 1

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            for index in range(len(calls)):
                nursery.start_soon(check, index)
    assert unavailable == len(calls)


async def hear(bus: Bus, subscription: Subscription) -> None:
    """Publish until it is heard: in between the bus may be cut off, but it says so."""
    with trio.fail_after(DEADLINE):
        while True:
            await bus.publish("a", b"x")
            with suppress(BusGap):
                assert await subscription.__anext__() == ("a", b"x")
                return


async def wait_lease(directory: Directory) -> None:
    """Announce, as a relay does at every heartbeat, until Redis is there."""
    with trio.fail_after(DEADLINE):
        while True:
            await trio.lowlevel.checkpoint()
            with suppress(Unavailable):
                await directory.announce(relay(), LONG)
                return


async def test_redis_crashes_and_comes_back_empty(server: RedisServer) -> None:
    async with (
        open_redis_backplane(server.url, settle=0) as backplane,
        backplane.bus.subscribe("a") as subscription,
    ):
        directory = backplane.directory
        await directory.announce(relay(), LONG)
        lost = await claim(directory)
        server.kill()
        await check_unavailable(backplane, lost)
        await wait_gap(subscription)

        server.start()
        with pytest.raises(LeaseLost):
            await claim(directory)
        assert await directory.announce(relay(), LONG) is False
        back = await reclaim(directory, lost)
        assert back.generation > lost.generation
        assert await directory.routes() == [back]
        await wait_gap(subscription)
        await hear(backplane.bus, subscription)


async def test_a_hanging_redis_is_noticed_and_costs_no_lease(server: RedisServer) -> None:
    """Nobody could renew a lease while Redis was held, and that was longer than the lease lasts."""
    async with (
        open_redis_backplane(server.url) as backplane,
        backplane.bus.subscribe(*TOPICS) as subscription,
    ):
        directory = backplane.directory
        mirror = RouteMirror(backplane, subscription)
        await directory.announce(relay(), 4)
        route = await claim(directory)
        await mirror.catch_up()
        server.hold()
        try:
            await check_unavailable(backplane, route)
            await wait_gap(subscription)
        finally:
            server.go_on()
        assert await directory.announce(relay(), LONG) is True
        assert await directory.routes() == [route]
        await wait_gap(subscription)


async def test_who_knew_more_waits_until_relays_have_put_it_back(server: RedisServer) -> None:
    async with open_redis_backplane(server.url, settle=LONG) as backplane:
        directory = backplane.directory
        await directory.announce(relay(), LONG)
        lost = [await claim(directory, name) for name in ("shop", "blog")]
        assert len(await directory.routes()) == 2
        server.kill()
        server.start()
        await wait_lease(directory)
        back = await reclaim(directory, lost[0])
        # One is back and can be told; that the other is nowhere cannot be told yet.
        assert await directory.route("prj_shop") == back
        for call in (directory.routes, directory.relays, lambda: directory.route("prj_blog")):
            with pytest.raises(Unavailable, match="putting their routes back"):
                await call()
        async with open_redis_backplane(server.url) as newcomer:
            assert await newcomer.directory.routes() == [back]
            assert await newcomer.directory.relays() == [relay()]


async def test_after_a_while_what_is_not_back_is_gone(server: RedisServer) -> None:
    async with open_redis_backplane(server.url, settle=1) as backplane:
        directory = backplane.directory
        await directory.announce(relay(), LONG)
        await claim(directory)
        server.kill()
        server.start()
        refused = 0
        with trio.fail_after(DEADLINE):
            while True:
                try:
                    assert await directory.routes() == []
                    break
                except Unavailable:
                    refused += 1
        assert refused
        assert await directory.relays() == []


async def test_what_redis_reads_from_its_disk_is_not_relied_upon(server: RedisServer) -> None:
    """The default settings of Redis write to the disk now and then: what is read after a crash is old."""
    async with open_redis_backplane(server.url, settle=0) as backplane:
        directory = backplane.directory
        await directory.announce(relay(), LONG)
        gone = await claim(directory, "gone")
        with server.client() as client:
            client.save()
        await directory.release(gone.project_id, gone.generation)
        lost = await claim(directory, "shop")
        server.kill()
        server.start()
        with server.client() as client:
            assert client.hlen("whook:routes") == 1
        assert await directory.announce(relay(), LONG) is False
        back = await reclaim(directory, lost)
        assert back.generation > lost.generation
        assert await directory.routes() == [back]
        with server.client() as client:
            assert set(client.keys("whook:held:*")) == set(client.keys(f"whook:held:{await epoch(server)}"))


async def epoch(server: RedisServer) -> str:
    with server.client() as client:
        entry: bytes = client.hget("whook:relays", "r1")  # type: ignore[assignment]
    return entry[1 : entry.index(b",")].decode()


@pytest.mark.parametrize("key", ["clock", "generation", "relays", "leases", "*"])
async def test_keys_that_somebody_removes_come_back_with_the_heartbeat(server: RedisServer, key: str) -> None:
    async with open_redis_backplane(server.url, settle=0) as backplane:
        directory = backplane.directory
        await directory.announce(relay(), LONG)
        route = await claim(directory)
        with server.client() as client:
            assert client.delete(*client.keys(f"whook:{key}"))  # type: ignore[misc]
        if not await directory.announce(relay(), LONG):
            route = await reclaim(directory, route)
        assert await directory.relays() == [relay()]
        assert await directory.routes() == [route]
        assert (await claim(directory, takeover=True)).generation > route.generation


async def test_generations_rise_even_when_the_clock_of_redis_was_set_back(server: RedisServer) -> None:
    ahead = 1 << 52
    async with open_redis_backplane(server.url, settle=0) as backplane:
        directory = backplane.directory
        await directory.announce(relay(), LONG)
        with server.client() as client:
            client.set("whook:generation", ahead)
        lost = await claim(directory)
        assert lost.generation == ahead + 1
        server.kill()
        server.start()
        await wait_lease(directory)
        assert (await reclaim(directory, lost)).generation > lost.generation
    async with open_redis_backplane(server.url) as other:
        assert (await claim(other.directory, takeover=True)).generation > lost.generation


async def test_it_opens_before_redis_is_there(server: RedisServer) -> None:
    server.kill()
    async with (
        open_redis_backplane(server.url) as backplane,
        backplane.bus.subscribe(*TOPICS) as subscription,
    ):
        with pytest.raises(Unavailable):
            await backplane.directory.routes()
        server.start()
        await wait_gap(subscription)
        mirror = RouteMirror(backplane, subscription)
        await backplane.directory.announce(relay(), LONG)
        route = await claim(backplane.directory)
        await mirror.catch_up()
        assert mirror.routes == {route.project_id: route}


async def test_full_memory_changes_nothing(server: RedisServer) -> None:
    async with (
        open_redis_backplane(server.url) as backplane,
        backplane.bus.subscribe(*TOPICS) as subscription,
    ):
        directory = backplane.directory
        mirror = RouteMirror(backplane, subscription)
        await directory.announce(relay(), LONG)
        route = await claim(directory)
        with server.client() as client:
            client.config_set("maxmemory", 1)
            for call in (
                lambda: claim(directory, takeover=True),
                lambda: directory.withdraw("r1"),
                lambda: directory.release(route.project_id, route.generation),
            ):
                with pytest.raises(Unavailable, match="maxmemory"):
                    await call()
            client.config_set("maxmemory", 0)
        assert await directory.routes() == [route]
        await mirror.catch_up()
        assert mirror.routes == {route.project_id: route}
        assert len(mirror.events) == 1


async def test_forgotten_scripts_are_sent_again(server: RedisServer) -> None:
    async with open_redis_backplane(server.url) as backplane:
        await backplane.directory.announce(relay(), LONG)
        with server.client() as client:
            client.script_flush()
        assert await backplane.directory.announce(relay(), LONG) is True


async def test_the_bus_survives_the_loss_of_its_connection_alone(server: RedisServer) -> None:
    async with (
        open_redis_backplane(server.url) as backplane,
        backplane.bus.subscribe("a") as waiting,
        backplane.bus.subscribe("b") as other,
    ):
        for _ in range(3):
            await hear(backplane.bus, waiting)
            with server.client() as client:
                assert client.client_kill_filter(_type="pubsub") == 1
            await wait_gap(waiting)
            await wait_gap(other)
        await hear(backplane.bus, waiting)
