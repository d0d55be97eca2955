"""The route table follows the directory in whatever order events come, and the sync task heals gaps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from whook.backplane.ports import (
    BusGap,
    Recovering,
    RelayGone,
    Route,
    RouteEvent,
    RouteGone,
    RouteSet,
    Unavailable,
    encode_event,
)
from whook.chassis.readiness import Degraded
from whook_conductor.routes import RELOAD_SECONDS, RouteTable, sync_routes


def route(project: str, generation: int, relay: str = "rly_a") -> Route:
    return Route(
        project_id=f"prj_{project}",
        project=project,
        relay_id=relay,
        tunnel_id=f"tun_{generation}",
        generation=generation,
        instance="i",
        holder="ada",
    )


def generation_of(table: RouteTable, project: str) -> int | None:
    found = table.lookup(project)
    return found.generation if found else None


def test_a_newer_claim_replaces_an_older_one() -> None:
    table = RouteTable()
    table.apply(RouteSet(route("shop", 1)))
    table.apply(RouteSet(route("shop", 2, "rly_b")))
    assert generation_of(table, "shop") == 2
    table.apply(RouteSet(route("shop", 1)))
    assert generation_of(table, "shop") == 2


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_project_that_was_lost_just_now_is_worth_asking_for() -> None:
    clock = Clock()
    table = RouteTable(clock)
    assert not table.worth_asking("shop")
    table.apply(RouteSet(route("shop", 1)))
    table.apply(RouteSet(route("blog", 2)))
    table.apply(RelayGone("rly_a", 3))
    assert table.worth_asking("shop")
    table.not_back("shop")
    assert not table.worth_asking("shop")  # not for every request
    assert table.worth_asking("blog")
    clock.now += 0.3
    assert table.worth_asking("shop")
    table.apply(RouteSet(route("shop", 4)))
    table.apply(RouteGone("prj_shop", 4))
    assert table.worth_asking("shop")
    clock.now += 60
    assert not table.worth_asking("shop")


def test_a_late_release_cannot_remove_a_newer_claim() -> None:
    table = RouteTable()
    table.apply(RouteSet(route("shop", 2)))
    table.apply(RouteGone("prj_shop", 1))
    assert generation_of(table, "shop") == 2
    table.apply(RouteGone("prj_shop", 2))
    assert generation_of(table, "shop") is None


def test_an_announcement_that_comes_after_its_own_end_is_ignored() -> None:
    table = RouteTable()
    table.apply(RouteGone("prj_shop", 5))
    table.apply(RouteSet(route("shop", 5)))
    assert generation_of(table, "shop") is None
    table.apply(RouteSet(route("shop", 6)))
    assert generation_of(table, "shop") == 6


def test_a_relay_takes_its_routes_along_and_no_others() -> None:
    table = RouteTable()
    table.replace([route("a", 1), route("b", 2), route("c", 3, "rly_b")])
    table.learn(route("b", 9))
    table.apply(RelayGone("rly_a", 5))
    assert [generation_of(table, name) for name in "abc"] == [None, 9, 3]
    table.apply(RouteSet(route("a", 4)))
    assert generation_of(table, "a") is None, "claimed on the lease that ended"


def test_a_project_that_moved_does_not_go_with_its_old_relay() -> None:
    table = RouteTable()
    table.apply(RouteSet(route("shop", 1, "rly_a")))
    table.apply(RouteSet(route("shop", 2, "rly_b")))
    table.apply(RelayGone("rly_a", 99))
    assert generation_of(table, "shop") == 2


def test_operators_get_pages_and_find_tunnels() -> None:
    table = RouteTable()
    names = [f"p{number:02}" for number in range(20)]
    for number, name in enumerate(reversed(names)):
        table.learn(route(name, number + 1, relay="rly_a" if number % 2 else "rly_b"))
    seen: list[str] = []
    after = ""
    while page := table.page(project=None, relay_id=None, after=after, limit=7):
        seen += [one.project for one in page]
        after = seen[-1]
    assert seen == names
    assert [one.project for one in table.page(project="p03", relay_id=None, after="", limit=7)] == ["p03"]
    assert table.page(project="none", relay_id=None, after="", limit=7) == []
    there = table.page(project=None, relay_id="rly_b", after="p04", limit=100)
    assert [one.project for one in there] == names[5::2]
    found = table.of_tunnel("tun_3")
    assert found is not None
    assert found.project == "p17"
    assert table.of_tunnel("tun_none") is None


def test_a_snapshot_replaces_everything() -> None:
    table = RouteTable()
    table.replace([route("a", 10), route("b", 11)])
    table.apply(RouteGone("prj_a", 10))
    table.replace([route("a", 1)])
    assert generation_of(table, "a") == 1, "an empty directory that started anew counts from the beginning"
    assert len(table) == 1


EVENTS = st.one_of(
    st.builds(
        lambda name, generation, relay: RouteSet(route(name, generation, relay)),
        st.sampled_from("ab"),
        st.integers(1, 6),
        st.sampled_from(["rly_a", "rly_b"]),
    ),
    st.builds(
        lambda name, generation: RouteGone(f"prj_{name}", generation),
        st.sampled_from("ab"),
        st.integers(1, 6),
    ),
    st.builds(RelayGone, st.sampled_from(["rly_a", "rly_b"]), st.integers(1, 6)),
)


@given(st.lists(EVENTS, max_size=30))
def test_whatever_comes_the_table_stays_consistent(events: list[RouteEvent]) -> None:
    table = RouteTable()
    ended: dict[str, int] = {}
    for event in events:
        table.apply(event)
        if isinstance(event, RouteGone):
            ended[event.project_id] = max(event.generation, ended.get(event.project_id, 0))
        elif isinstance(event, RelayGone):
            ended[event.relay_id] = max(event.generation, ended.get(event.relay_id, 0))
        for name in "ab":
            found = table.lookup(name)
            if found is not None:
                assert found.project == name
                assert found.generation > ended.get(found.project_id, 0)
                assert found.generation > ended.get(found.relay_id, 0)
    assert len(table) == sum(table.lookup(name) is not None for name in "ab")


class Feed:
    """A bus and a directory in one, played by the test."""

    def __init__(self, routes: list[Route]) -> None:
        self.stored = routes
        self.broken: Unavailable | None = None
        self.gate = trio.Event()
        self.gate.set()
        self.loads = 0
        self._send, self._receive = trio.open_memory_channel[bytes | None](100)
        self.changed = trio.lowlevel.ParkingLot()

    async def routes(self) -> list[Route]:
        await trio.lowlevel.checkpoint()
        await self.gate.wait()
        if self.broken:
            raise self.broken
        self.loads += 1
        return list(self.stored)

    def say(self, event: RouteEvent | bytes | None) -> None:
        """Publish an event; None is a gap."""
        self._send.send_nowait(event if event is None or isinstance(event, bytes) else encode_event(event))

    @asynccontextmanager
    async def subscribe(self, *_: str) -> AsyncIterator[Feed]:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise self.broken
        yield self

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> tuple[str, bytes]:
        message = await self._receive.receive()
        if message is None:
            raise BusGap
        return "routes", message


async def test_the_sync_task_loads_follows_and_heals_a_gap() -> None:
    feed = Feed([route("a", 1)])
    table = RouteTable()
    async with trio.open_nursery() as nursery:
        await nursery.start(sync_routes, table, feed, feed)
        assert table.ready
        assert generation_of(table, "a") == 1
        feed.say(RouteSet(route("b", 2)))
        await trio.testing.wait_all_tasks_blocked()
        assert generation_of(table, "b") == 2
        feed.stored = [route("c", 3)]
        feed.say(None)
        await trio.testing.wait_all_tasks_blocked()
        assert generation_of(table, "c") == 3
        assert table.ready
        assert generation_of(table, "a") is None
        nursery.cancel_scope.cancel()
    assert not table.ready


async def test_an_event_of_a_newer_version_does_no_harm() -> None:
    feed = Feed([route("a", 1)])
    table = RouteTable()
    async with trio.open_nursery() as nursery:
        await nursery.start(sync_routes, table, feed, feed)
        feed.say(b'{"event":"something-new"}')
        feed.say(RouteSet(route("b", 2)))
        await trio.testing.wait_all_tasks_blocked()
        assert (generation_of(table, "a"), generation_of(table, "b")) == (1, 2)
        nursery.cancel_scope.cancel()


async def test_while_a_gap_is_being_mended_the_conductor_is_unready() -> None:
    feed = Feed([route("a", 1)])
    table = RouteTable()
    assert table.check() == "no routes yet: reading them from the directory"
    async with trio.open_nursery() as nursery:
        await nursery.start(sync_routes, table, feed, feed)
        assert table.check() is None
        feed.gate = trio.Event()
        feed.say(None)
        await trio.testing.wait_all_tasks_blocked()
        assert table.check() == "reading the routes again after a gap in the bus"
        feed.gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert table.check() is None
        nursery.cancel_scope.cancel()


async def test_a_directory_that_does_not_answer_after_a_gap_only_degrades(
    autojump_clock: trio.abc.Clock,
) -> None:
    feed = Feed([route("a", 1)])
    table = RouteTable()
    async with trio.open_nursery() as nursery:
        await nursery.start(sync_routes, table, feed, feed)
        feed.gate = trio.Event()
        feed.say(None)
        await trio.sleep(RELOAD_SECONDS / 2)
        assert isinstance(table.check(), str)
        await trio.sleep(RELOAD_SECONDS)
        assert isinstance(table.check(), Degraded)
        nursery.cancel_scope.cancel()


async def test_a_directory_that_is_gone_leaves_known_routes_in_use(autojump_clock: trio.abc.Clock) -> None:
    feed = Feed([route("a", 1)])
    table = RouteTable()
    async with trio.open_nursery() as nursery:
        await nursery.start(sync_routes, table, feed, feed)
        feed.broken = Unavailable("gone")
        feed.say(None)
        await trio.sleep(60)
        assert not table.ready
        assert table.cut_off
        assert table.check() == Degraded("serving the routes that are known: gone")
        assert generation_of(table, "a") == 1
        feed.broken = Recovering("coming back")
        await trio.sleep(60)
        assert table.check() == Degraded("serving the routes that are known: coming back")
        assert not table.cut_off, "what can be claimed is claimed again"
        feed.broken = None
        await trio.sleep(60)
        assert table.ready
        assert table.check() is None
        nursery.cancel_scope.cancel()


async def test_who_never_had_a_snapshot_is_unready_while_the_directory_is_gone(
    autojump_clock: trio.abc.Clock,
) -> None:
    feed = Feed([])
    feed.broken = Unavailable("gone")
    table = RouteTable()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync_routes, table, feed, feed)
        await trio.sleep(60)
        assert table.check() == "no routes yet: gone"
        feed.broken = None
        await trio.sleep(60)
        assert table.check() is None
        nursery.cancel_scope.cancel()


async def test_whoever_waits_for_a_project_hears_of_its_next_route() -> None:
    table = RouteTable()
    told: list[Route] = []
    table.on_route.append(told.append)
    table.learn(route("shop", 1))
    news, again, other = table.news("shop"), table.news("shop"), table.news("blog")
    assert news is again
    table.learn(route("shop", 2, "rly_b"))
    assert news.is_set()
    assert not other.is_set()
    assert not table.news("shop").is_set()
    assert [found.generation for found in told] == [1, 2]
    assert (table.count("rly_a"), table.count("rly_b")) == (0, 1)
    table.replace([route("blog", 3)])
    assert other.is_set()
