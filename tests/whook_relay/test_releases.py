"""Routes of closed tunnels: few calls at once, so that tunnels that open are not kept waiting."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio
import trio.testing

from tests.support.deadlines import DEADLINE
from whook.backplane.memory import open_memory_backplane
from whook.backplane.ports import Directory, RelayInfo, Route, Unavailable
from whook_relay.releases import AT_ONCE, Releases


class SlowDirectory:
    """The directory in memory, which answers a release when the test says so and counts what is under way."""

    def __init__(self, directory: Directory) -> None:
        self.inner = directory
        self.under_way = 0
        self.most = 0
        self.down = False
        self.go_on = trio.Event()

    async def release(self, project_id: str, generation: int) -> bool:
        if self.down:
            raise Unavailable("down")
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go_on.wait()
        self.under_way -= 1
        return await self.inner.release(project_id, generation)


async def claim(directory: Directory, name: str) -> Route:
    return await directory.claim(
        project_id=name, project=name, relay_id="r1", tunnel_id="t", instance="i", holder="h"
    )


@pytest.fixture
async def slow(autojump_clock: trio.testing.MockClock) -> AsyncGenerator[SlowDirectory, None]:
    async with open_memory_backplane() as backplane:
        info = RelayInfo(id="r1", tunnel_url="", trunk_url="", capacity=1, load=0, version="")
        await backplane.directory.announce(info, 1e6)
        yield SlowDirectory(backplane.directory)


async def drained(releases: Releases, slow: SlowDirectory) -> None:
    with trio.fail_after(DEADLINE):
        while len(releases) or slow.under_way:
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(1)


async def test_few_at_once_until_all_are_gone(
    slow: SlowDirectory, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    releases = Releases(slow)  # type: ignore[arg-type]
    nursery.start_soon(releases.run)
    for n in range(50):
        route = await claim(slow.inner, f"p{n}")
        releases.put(route.project_id, route.generation)
    await trio.testing.wait_all_tasks_blocked()
    assert (slow.most, len(releases)) == (AT_ONCE, 50 - AT_ONCE)
    slow.go_on.set()
    await drained(releases, slow)
    assert (slow.most, releases.released) == (AT_ONCE, 50)
    assert await slow.inner.routes() == []
    late = await claim(slow.inner, "late")
    for _ in range(AT_ONCE + 1):
        releases.put("late", late.generation)
        await drained(releases, slow)
    assert await slow.inner.routes() == []


async def test_a_newer_route_stays(
    slow: SlowDirectory, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    releases = Releases(slow)  # type: ignore[arg-type]
    old = await claim(slow.inner, "shop")
    new = await claim(slow.inner, "shop")
    releases.put("shop", old.generation)
    slow.go_on.set()
    nursery.start_soon(releases.run)
    await drained(releases, slow)
    assert await slow.inner.routes() == [new]


async def test_what_cannot_be_released_now_is_released_later(
    slow: SlowDirectory, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    releases = Releases(slow)  # type: ignore[arg-type]
    slow.down = True
    slow.go_on.set()
    routes = [await claim(slow.inner, f"p{n}") for n in range(5)]
    for route in routes:
        releases.put(route.project_id, route.generation)
    nursery.start_soon(releases.run)
    await trio.sleep(30)
    assert len(releases) == 5
    slow.down = False
    await drained(releases, slow)
    assert await slow.inner.routes() == []
