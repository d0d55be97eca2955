"""Leases in memory by Trio's clock, which these tests move.

Nothing here may use a worker thread: a clock that jumps by itself does not wait for one."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from whook.backplane.memory import open_memory_backplane
from whook.backplane.ports import (
    TOPIC_RELAYS,
    TOPIC_ROUTES,
    Directory,
    LeaseLost,
    RelayGone,
    RelayInfo,
    decode_relay_event,
    decode_route_event,
)


def relay(name: str) -> RelayInfo:
    return RelayInfo(id=name, tunnel_url="", trunk_url="", capacity=1, load=0, version="1")


async def claim(directory: Directory, relay_id: str = "r1") -> None:
    await directory.claim(
        project_id="p", project="shop", relay_id=relay_id, tunnel_id="t", instance="i", holder="h"
    )


async def ids(directory: Directory) -> set[str]:
    return {found.id for found in await directory.relays()}


async def test_a_lease_lasts_exactly_as_long_as_said(mock_clock: MockClock) -> None:
    async with open_memory_backplane() as backplane:
        await backplane.directory.announce(relay("r1"), 15)
        await claim(backplane.directory)
        mock_clock.jump(14.999)
        assert await ids(backplane.directory) == {"r1"}
        assert len(await backplane.directory.routes()) == 1
        mock_clock.jump(0.001)
        assert await ids(backplane.directory) == set()
        assert await backplane.directory.routes() == []
        with pytest.raises(LeaseLost):
            await claim(backplane.directory)


async def test_renewing_keeps_it(mock_clock: MockClock) -> None:
    async with open_memory_backplane() as backplane:
        await backplane.directory.announce(relay("r1"), 15)
        await claim(backplane.directory)
        for _ in range(10):
            mock_clock.jump(14)
            assert await backplane.directory.announce(relay("r1"), 15) is True
        assert len(await backplane.directory.routes()) == 1
        mock_clock.jump(15)
        assert await backplane.directory.announce(relay("r1"), 15) is False
        assert await backplane.directory.routes() == []


@pytest.mark.parametrize(("ttls", "order"), [((5, 15), "ab"), ((15, 5), "ba"), ((5, 5), "ab")])
async def test_each_lease_ends_at_its_own_time(
    autojump_clock: MockClock, ttls: tuple[float, float], order: str
) -> None:
    async with open_memory_backplane() as backplane, backplane.bus.subscribe(TOPIC_RELAYS) as subscription:
        # The task that ends leases is asleep before the first one: it has to notice.
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        for name, ttl in zip("ab", ttls, strict=True):
            await backplane.directory.announce(relay(name), ttl)
        ends = dict(zip("ab", ttls, strict=True))
        seen: list[str] = []
        while len(seen) < 2:
            event = decode_relay_event((await subscription.__anext__())[1])
            if isinstance(event, RelayGone):
                seen.append(event.relay_id)
                assert trio.current_time() - start == pytest.approx(ends[event.relay_id])
        assert "".join(seen) == order


async def test_a_lease_made_shorter_ends_sooner(autojump_clock: MockClock) -> None:
    async with open_memory_backplane() as backplane, backplane.bus.subscribe(TOPIC_ROUTES) as subscription:
        await backplane.directory.announce(relay("r1"), 100)
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await backplane.directory.announce(relay("r1"), 5)
        event = decode_route_event((await subscription.__anext__())[1])
        assert isinstance(event, RelayGone)
        assert trio.current_time() - start == pytest.approx(5)


async def test_cancelled_calls_change_nothing(mock_clock: MockClock) -> None:
    async with open_memory_backplane() as backplane:
        directory = backplane.directory
        await directory.announce(relay("r1"), 15)
        await claim(directory)
        with trio.CancelScope() as scope:
            scope.cancel()
            await directory.withdraw("r1")
        assert scope.cancelled_caught
        assert await ids(directory) == {"r1"}
        with trio.CancelScope() as scope:
            scope.cancel()
            await directory.release("p", 1)
        assert scope.cancelled_caught
        assert len(await directory.routes()) == 1
