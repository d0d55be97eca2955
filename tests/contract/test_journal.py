"""What every journal must do."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio
import trio.testing

from tests.support.deadlines import DEADLINE
from tests.support.history import answered, as_sent
from tests.support.redis_server import next_prefix, shared_server
from whook.backplane.memory import MemoryJournal
from whook.backplane.ports import Journal, JournalEntry, JournalFull, Record
from whook.backplane.redis import open_redis_journal
from whook.chassis.sealing import Sealer


@pytest.fixture(params=["memory", "redis", "redis-sealed"])
async def journal(request: pytest.FixtureRequest) -> AsyncGenerator[Journal, None]:
    if request.param == "memory":
        yield MemoryJournal(max_batches=4)
        return
    sealer = Sealer([bytes(32)] if request.param == "redis-sealed" else [])
    async with open_redis_journal(
        shared_server().url, sealer, prefix=next_prefix(), max_bytes=40_000
    ) as opened:
        yield opened


async def take(journal: Journal, count: int) -> list[JournalEntry]:
    """Read until so many batches have come."""
    found: list[JournalEntry] = []
    with trio.fail_after(DEADLINE):
        while len(found) < count:
            found += await journal.read()
    assert len(found) == count
    return found


def batch(size: int = 10_000) -> list[Record]:
    return [answered(body=bytes(size // 2)) for _ in range(2)]


async def has_room(journal: Journal) -> bool:
    try:
        await journal.append(batch())
    except JournalFull:
        return False
    return True


def decoded(entry: JournalEntry) -> list[Record]:
    return [news if isinstance(news, Record) else news.decode() for news in entry.records]


async def test_batches_come_in_order_and_whole(journal: Journal) -> None:
    batches = [batch(100) for _ in range(3)]
    await journal.append(batches[0])
    await journal.append([batches[1][0], as_sent(batches[1][1])])
    await journal.append([as_sent(record) for record in batches[2]])
    entries = await take(journal, 3)
    assert [decoded(entry) for entry in entries] == batches
    await journal.done([entry.key for entry in entries])


async def test_a_read_waits_and_then_gives_nothing(journal: Journal) -> None:
    with trio.fail_after(DEADLINE):
        assert await journal.read() == []


async def test_a_reader_that_waits_gets_what_comes(journal: Journal) -> None:
    records = batch(100)
    found: list[JournalEntry] = []

    async def read() -> None:
        found.extend(await take(journal, 1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await journal.append(records)
    assert found[0].records == records


async def test_it_takes_no_more_than_it_may_hold(journal: Journal) -> None:
    taken = 0
    while await has_room(journal):
        taken += 1
    assert 1 <= taken <= 4
    entries = await take(journal, taken)
    assert not await has_room(journal)  # read, but not done
    await journal.done([entry.key for entry in entries])
    assert await has_room(journal)
    assert len(await take(journal, 1)) == 1


async def test_done_may_be_said_twice(journal: Journal) -> None:
    await journal.append(batch(100))
    (entry,) = await take(journal, 1)
    await journal.done([entry.key])
    await journal.done([entry.key])
    await journal.append(batch(100))
    assert len(await take(journal, 1)) == 1
