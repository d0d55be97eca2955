"""Changes that come together share a transaction, and nothing else: not their refusals, not their defects."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio
import trio.testing

from tests.support.deadlines import DEADLINE, Gate
from tests.support.queues import UNLIMITED, event, fill, own
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import Unavailable
from whook.backplane.sql import QUEUE, open_database, open_sqlite_queue, sqlite_url
from whook.backplane.sql.group_commit import GroupCommit


class Refused(Exception):
    """What a change raises to refuse itself."""


class Rig:
    """A writer on a table of numbers, and the transactions that were committed."""

    def __init__(self) -> None:
        self.writer: GroupCommit[sa.Connection]
        self.commits = 0
        self.begun = 0

    def begin(self, connection: sa.Connection) -> sa.Connection:
        self.begun += 1
        return connection

    def committed(self, _: sa.Connection) -> None:
        self.commits += 1

    async def add(self, number: int) -> int:
        return await self.writer.change(partial(insert, number=number))

    async def numbers(self) -> list[int]:
        found = await self.writer.change(
            lambda connection: list(
                connection.execute(sa.text("SELECT fence FROM ownerships ORDER BY fence"))
            )
        )
        return [row[0] for row in found]


def insert(connection: sa.Connection, number: int) -> int:
    connection.execute(
        sa.text("INSERT INTO ownerships VALUES (:id, 'x', :number)"), {"id": str(number), "number": number}
    )
    return number


@asynccontextmanager
async def running(folder: Path) -> AsyncGenerator[Rig, None]:
    rig = Rig()
    async with open_database(sqlite_url(folder / "x.db"), QUEUE) as database, trio.open_nursery() as nursery:
        rig.writer = GroupCommit(database, rig.begin, rig.committed, (Refused,))
        nursery.start_soon(rig.writer.run)
        yield rig
        nursery.cancel_scope.cancel()


async def together(rig: Rig, *works: Callable[[sa.Connection], object]) -> list[object]:
    """Ask for changes while the writer is busy, so that they come in one group; give what became of each."""
    gate, outcomes = Gate(), [object()] * len(works)

    async def ask(index: int) -> None:
        try:
            outcomes[index] = await rig.writer.change(works[index])
        except (Refused, ZeroDivisionError) as error:
            outcomes[index] = error

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.writer.change, lambda _: gate.wait())
            await trio.testing.wait_all_tasks_blocked()
            for index in range(len(works)):
                nursery.start_soon(ask, index)
            await trio.testing.wait_all_tasks_blocked()
            gate.open()
    return outcomes


async def test_what_comes_together_is_one_transaction(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        outcomes = await together(rig, *(partial(insert, number=number) for number in range(50)))
        assert outcomes == list(range(50))
        assert rig.commits == 2
        assert await rig.numbers() == list(range(50))


async def test_a_refusal_is_for_its_caller_alone(tmp_path: Path) -> None:
    def refuse(_: sa.Connection) -> None:
        raise Refused

    async with running(tmp_path) as rig:
        outcomes = await together(rig, partial(insert, number=1), refuse, partial(insert, number=2))
        assert isinstance(outcomes[1], Refused)
        assert (outcomes[0], outcomes[2], rig.commits) == (1, 2, 2)


async def test_a_defect_is_for_its_caller_alone(tmp_path: Path) -> None:
    def defect(connection: sa.Connection) -> None:
        insert(connection, 9)
        raise ZeroDivisionError

    async with running(tmp_path) as rig:
        outcomes = await together(rig, partial(insert, number=1), defect, partial(insert, number=2))
        assert isinstance(outcomes[1], ZeroDivisionError)
        assert (outcomes[0], outcomes[2]) == (1, 2)
        assert await rig.numbers() == [1, 2]


async def test_what_was_given_up_before_its_turn_is_not_done(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        gate = Gate()
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.writer.change, lambda _: gate.wait())
                await trio.testing.wait_all_tasks_blocked()
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as waiting:
                        waiting.start_soon(rig.add, 1)
                        await trio.testing.wait_all_tasks_blocked()
                        scope.cancel()
                assert scope.cancelled_caught
                gate.open()
        assert await rig.numbers() == []


async def test_whoever_waits_when_it_is_closed_is_told(tmp_path: Path) -> None:
    gate = Gate()
    outcomes: list[object] = []
    async with open_database(sqlite_url(tmp_path / "x.db"), QUEUE) as database:
        rig = Rig()
        rig.writer = GroupCommit(database, rig.begin, rig.committed, (Refused,))

        async def ask(work: Callable[[sa.Connection], object]) -> None:
            try:
                outcomes.append(await rig.writer.change(work))
            except Unavailable as error:
                outcomes.append(str(error))

        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as asking, trio.open_nursery() as nursery:
                nursery.start_soon(rig.writer.run)
                asking.start_soon(ask, lambda _: gate.wait())
                await trio.testing.wait_all_tasks_blocked()
                asking.start_soon(ask, partial(insert, number=1))
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
                gate.open()
            await ask(partial(insert, number=2))
    closed = "the database is being closed"
    # What was being committed was committed, and its caller learns it.
    assert outcomes == [None, closed, closed]


async def test_a_full_disk_takes_nothing_and_passes(tmp_path: Path) -> None:
    async with open_sqlite_queue(sqlite_url(tmp_path / "queue.db"), MemoryBus()) as queue:
        await fill(queue, 1)
        database = queue._database

        def bound(pages: int) -> None:
            with database._engines.writer.begin() as connection:
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        bound(1)
        for _ in range(2):
            with pytest.raises(Unavailable, match="full"):
                await queue.append(event(body=bytes(100_000)), UNLIMITED)
        assert (await queue.backlog("prj_shop")).count == 1
        bound(1_000_000)
        await fill(queue, 1)
        assert len((await queue.read(await own(queue), limit=9, max_bytes=9, in_order=True)).entries) == 2
