"""Trunks follow the relays of the directory, and only those that prove themselves."""

from __future__ import annotations

import trio
import trio.testing

from tests.support.conductor import KEY, FarEnd, relay_info
from tests.support.deadlines import DEADLINE
from tests.support.links import read, reset_of
from tests.support.wire_talk import request
from whook.backplane.memory import open_memory_backplane
from whook.backplane.ports import RelayInfo, Route
from whook.chassis.metrics import REGISTRY, Publisher
from whook.link import Exchange
from whook.wire import ResetCode
from whook_conductor.relays import watch_relays
from whook_conductor.trunks import Trunks


def trunks(key: str = KEY) -> Trunks:
    return Trunks(key.encode(), agent="test", instance="cnd", max_exchanges=10, connect_timeout=5, cap=0.05)


async def up(pool: Trunks, relay: str = "rly") -> None:
    with trio.fail_after(DEADLINE):
        await pool.wait_up(relay)


async def down(pool: Trunks) -> None:
    with trio.fail_after(DEADLINE):
        while pool.connected:
            await trio.testing.wait_all_tasks_blocked(0.001)


async def test_a_trunk_comes_up_and_comes_back() -> None:
    far, pool = FarEnd(), trunks()
    async with trio.open_nursery() as nursery:
        await nursery.start(far.serve)
        nursery.start_soon(pool.run)
        pool.update([relay_info("rly", far.port)])
        await up(pool)
        far.cut()
        await down(pool)
        await up(pool)
        nursery.cancel_scope.cancel()


async def test_what_happens_to_trunks_and_on_them_is_counted() -> None:
    """Attempts, losses, exchanges with the time to their answer, and those that came back without one."""

    def sample(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, labels)

    far, pool = FarEnd(), trunks()
    route = Route(
        project_id="prj",
        project="shop",
        relay_id="rly",
        tunnel_id="tun",
        generation=1,
        instance="",
        holder="",
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(far.serve)
        nursery.start_soon(pool.run)
        with Publisher() as to:
            pool.publish(to)
            pool.update([relay_info("rly", far.port)])
            await up(pool)
            assert sample("whook_relays") == sample("whook_conductor_trunks") == 1
            exchange = pool.open(route, request(), b"hello", end=True)
            assert (await read(exchange))[1] == b"hello"
            assert sample("whook_exchanges_opened_total") == sample("whook_exchange_seconds_count") == 1
            for direction in ("received", "sent"):
                kinds = {"link": "trunk", "end": "conductor", "direction": direction}
                assert (sample("whook_link_bytes_total", **kinds) or 0) > len(b"hello")

            async def never(_: Exchange) -> None:
                await trio.sleep_forever()

            far.handler = never
            exchange = pool.open(route, request(), b"", end=True)
            assert sample("whook_exchanges") == 1
            far.cut()
            assert (await reset_of(exchange)).code == ResetCode.TUNNEL_LOST
            await down(pool)
            await up(pool)
            assert sample("whook_exchange_resets_total", reason="tunnel_lost") == 1
            assert sample("whook_exchange_seconds_count") == 1
            assert sample("whook_conductor_trunk_attempts_total", result="up") == 2
            assert sample("whook_conductor_trunks_lost_total") == 1
        nursery.cancel_scope.cancel()


async def test_a_trunk_to_a_relay_that_left_ends_with_its_link() -> None:
    far, pool = FarEnd(), trunks()
    async with trio.open_nursery() as nursery:
        await nursery.start(far.serve)
        nursery.start_soon(pool.run)
        pool.update([relay_info("rly", far.port)])
        await up(pool)
        pool.update([])
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert pool.connected == 1, "what runs on it may finish"
        far.cut()
        await down(pool)
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert pool.connected == 0
        pool.update([relay_info("rly", far.port)])
        await up(pool)
        nursery.cancel_scope.cancel()


async def test_a_relay_with_another_key_is_not_talked_to() -> None:
    far, pool = FarEnd(), trunks("another key")
    async with trio.open_nursery() as nursery:
        await nursery.start(far.serve)
        nursery.start_soon(pool.run)
        pool.update([relay_info("rly", far.port)])
        with trio.fail_after(DEADLINE):
            await far.refused.wait()
        assert pool.connected == 0
        nursery.cancel_scope.cancel()


async def test_an_address_that_is_none_does_not_end_the_pool() -> None:
    far, pool = FarEnd(), trunks()
    async with trio.open_nursery() as nursery:
        await nursery.start(far.serve)
        nursery.start_soon(pool.run)
        wrong = RelayInfo(id="w", tunnel_url="", trunk_url="nonsense", capacity=1, load=0, version="1")
        pool.update([wrong, relay_info("closed", 1), relay_info("rly", far.port)])
        await up(pool)
        nursery.cancel_scope.cancel()


async def test_the_watch_hands_on_what_comes_and_goes() -> None:
    seen: list[list[str]] = []
    async with open_memory_backplane() as backplane, trio.open_nursery() as nursery:
        directory = backplane.directory

        def reader(relays: object) -> None:
            assert isinstance(relays, list)
            seen.append(sorted(relay.id for relay in relays))

        async def start(*, task_status: trio.TaskStatus[None]) -> None:
            await watch_relays(directory, backplane.bus, [reader], interval=1e6, task_status=task_status)

        await nursery.start(start)
        await directory.announce(relay_info("a", 1), 1e6)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert seen[-1] == ["a"]
        await directory.announce(relay_info("b", 1), 1e6)
        await directory.withdraw("a")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert seen[-1] == ["b"]
        nursery.cancel_scope.cancel()


async def test_a_relay_that_moved_is_connected_to_where_it_is_now() -> None:
    old, new, pool = FarEnd(), FarEnd(), trunks()
    async with trio.open_nursery() as nursery:
        await nursery.start(old.serve)
        await nursery.start(new.serve)
        nursery.start_soon(pool.run)
        pool.update([relay_info("rly", old.port)])
        await up(pool)
        pool.update([relay_info("rly", new.port)])
        with trio.fail_after(DEADLINE):
            while not new.answerers:
                await trio.testing.wait_all_tasks_blocked(0.001)
        await up(pool)
        nursery.cancel_scope.cancel()


async def test_a_relay_that_takes_leave_is_answered_and_gets_nothing_more() -> None:
    far, pool = FarEnd(), trunks()
    async with trio.open_nursery() as nursery:
        await nursery.start(far.serve)
        nursery.start_soon(pool.run)
        pool.update([relay_info("rly", far.port)])
        await up(pool)
        await trio.testing.wait_all_tasks_blocked(0.01)
        (answerer,) = far.answerers
        answerer.drain("the relay has drained")
        await down(pool)
        assert not pool.is_up("rly")
        with trio.fail_after(DEADLINE):
            while answerer.goaway is None:
                await trio.testing.wait_all_tasks_blocked(0.001)
        nursery.cancel_scope.cancel()
