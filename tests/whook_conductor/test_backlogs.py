"""The table of backlogs: any order of news, any loss, and what a request may conclude from it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.conductor_stores import open_stored
from tests.support.deadlines import DEADLINE
from whook.backplane.memory import open_memory_backplane
from whook.backplane.ports import (
    TOPIC_BACKLOG,
    BacklogEvent,
    BacklogGone,
    BacklogSet,
    BacklogState,
    Queue,
    Unavailable,
    encode_event,
)
from whook_conductor.backlogs import BacklogTable, sync_backlogs

IDS = ["prj_a", "prj_b", "prj_c"]


class Follower(RuleBasedStateMachine):
    """A queue that publishes, and a table that hears it late and loses some of it before a snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.table = BacklogTable(lambda: self.now)
        self.table.replace([], 0)
        self.version = 0
        self.waiting: set[str] = set()
        self.under_way: list[BacklogEvent] = []

    @rule(project=st.sampled_from(IDS))
    def change(self, project: str) -> None:
        self.version += 1
        if project in self.waiting:
            self.waiting.discard(project)
            self.under_way.append(BacklogGone(project_id=project, version=self.version))
        else:
            self.waiting.add(project)
            self.under_way.append(BacklogSet(project_id=project, project=project, version=self.version))

    @precondition(lambda self: self.under_way)
    @rule()
    def hear(self) -> None:
        self.table.apply(self.under_way.pop(0))

    @rule(data=st.data())
    def reload(self, data: st.DataObject) -> None:
        """Read the version, then the backlogs, with news in between; events from before come afterwards."""
        version = self.version
        if data.draw(st.booleans()):
            self.change(data.draw(st.sampled_from(IDS)))
        self.table.replace(set(self.waiting), version)
        if data.draw(st.booleans()):  # a gap: what was under way is lost, but for what came after the version
            self.under_way = [event for event in self.under_way if _version(event) > version]

    @rule()
    def settle(self) -> None:
        while self.under_way:
            self.hear()
        assert set(self.table.all()) == self.waiting
        for project in IDS:
            assert self.table.holds(project, block=True) == (project in self.waiting)

    @invariant()
    def old_news_change_nothing(self) -> None:
        before = set(self.table.all())
        self.table.apply(BacklogGone(project_id="prj_a", version=0))
        self.table.apply(BacklogSet(project_id="prj_b", project="b", version=0))
        assert set(self.table.all()) == before


def _version(event: BacklogEvent) -> int:
    return 0 if isinstance(event, BacklogState) else event.version


TestFollower = Follower.TestCase


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.table = BacklogTable(lambda: self.now)


def test_what_was_just_appended_holds_until_the_bus_has_told() -> None:
    clock = Clock()
    table = clock.table
    assert not table.holds("prj_a", block=False)
    assert not table.appended("prj_a")
    assert table.holds("prj_a", block=False)
    clock.now += 2.1
    assert not table.holds("prj_a", block=False)
    assert table.all() == []


def test_a_backlog_that_rests_holds_nobody_as_long_as_it_is_told_again() -> None:
    clock = Clock()
    table = clock.table
    told: list[str] = []
    table.changed = told.append
    table.apply(BacklogSet(project_id="prj_a", project="a", version=1))
    table.apply(BacklogState("prj_a", "resting"))
    assert not table.holds("prj_a", block=False)
    assert table.holds("prj_a", block=True)
    clock.now += 6.1
    assert table.holds("prj_a", block=False)
    table.apply(BacklogState("prj_a", "resting"))
    assert table.appended("prj_a"), "the others have to be told"
    assert table.holds("prj_a", block=False)
    assert told == ["prj_a", "prj_a"]


async def test_a_request_waits_for_a_backlog_that_is_ending(autojump_clock: trio.testing.MockClock) -> None:
    table = BacklogTable()
    table.apply(BacklogSet(project_id="prj_a", project="a", version=1))
    assert not await table.wait_end("prj_a", block=False)
    assert trio.current_time() == 0.0, "it waited for a backlog that is not ending"
    table.apply(BacklogState("prj_a", "ending"))
    assert not await table.wait_end("prj_a", block=False)
    assert trio.current_time() == 1.0
    table.apply(BacklogState("prj_a", "ending"))
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            await trio.sleep(0.5)
            table.apply(BacklogGone(project_id="prj_a", version=2))

        nursery.start_soon(end)
        assert await table.wait_end("prj_a", block=False)
        assert trio.current_time() == 1.5


@asynccontextmanager
async def followed(table: BacklogTable) -> AsyncIterator[tuple[Queue, trio.Nursery]]:
    async with (
        open_memory_backplane() as backplane,
        open_stored(backplane.bus) as stored,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(sync_backlogs, table, stored.queue, backplane.bus)
        resting = encode_event(BacklogState("prj_a", "resting"))
        await backplane.bus.publish(TOPIC_BACKLOG, resting)
        yield stored.queue, nursery
        nursery.cancel_scope.cancel()


async def test_the_table_follows_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    table = BacklogTable()
    async with followed(table):
        with trio.fail_after(DEADLINE):
            while table._state("prj_a") != "resting":
                await trio.testing.wait_all_tasks_blocked(0.001)
    assert len(table) == 0


async def test_a_queue_that_does_not_answer_holds_up_no_start() -> None:
    class Broken:
        async def version(self) -> int:
            await trio.lowlevel.checkpoint()
            raise Unavailable("the queue is gone")

    async with open_memory_backplane() as backplane, trio.open_nursery() as nursery:
        with trio.fail_after(DEADLINE):
            await nursery.start(sync_backlogs, BacklogTable(), Broken(), backplane.bus)
        nursery.cancel_scope.cancel()
