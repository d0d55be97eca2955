"""The recorder when the history or its journal is away, full, or refuses a piece of news."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.support.deadlines import DEADLINE
from tests.support.history import SHOP, stored_event
from tests.support.links import until
from tests.support.postgres import Postgres, running_postgres
from tests.support.redis_server import RedisServer
from whook.backplane.memory import MemoryJournal
from whook.backplane.ports import Journal, JournalFull, News, Unavailable, encode_record
from whook.backplane.redis import open_redis_journal
from whook.backplane.sql import CONDUCTOR, SqlHistory, migrate_database, open_database, sqlite_url
from whook.chassis.sealing import Sealer
from whook_conductor import recorder
from whook_conductor.capture import CaptureLimits
from whook_conductor.news import record_of
from whook_conductor.outcomes import Outcome, OutcomeRecorder
from whook_conductor.recorder import HistoryRecorder
from whook_conductor.settings import ConductorSettings


class Faulty(SqlHistory):
    """A real history that is away while told so, and chokes on one event."""

    away = False
    poison = ""
    calls = 0

    async def record(self, records: Sequence[News]) -> None:
        self.calls += 1
        if self.away:
            await trio.lowlevel.checkpoint()
            raise Unavailable("told so")
        if any(record.event_id == self.poison for record in records):
            raise ValueError("this one cannot be stored")
        await super().record(records)


@asynccontextmanager
async def open_history(folder: Path) -> AsyncIterator[Faulty]:
    async with open_database(sqlite_url(folder / "conductor.sqlite3"), CONDUCTOR) as database:
        yield Faulty(database, Sealer())


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[Faulty]:
    async with open_history(tmp_path) as opened:
        yield opened


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "GATHER_SECONDS", 0.05)


async def nothing_waits() -> Sequence[str]:
    await trio.lowlevel.checkpoint()
    return ()


def make(history: SqlHistory, journal: Journal, limits: CaptureLimits | None = None) -> HistoryRecorder:
    limits = limits or CaptureLimits(max_body=10_000, scheme="http")
    return HistoryRecorder(history, journal, ConductorSettings(), limits, nothing_waits)


def outcome(limits: CaptureLimits | None = None) -> Outcome:
    """Make one of now: the pruner runs as well, and would delete what is older than it keeps."""
    event = stored_event(time.time(), body=bytes(100))
    made = Outcome(event.id, b"POST", b"/", "192.0.2.1", event.received_at, 0.0, "shop", SHOP)
    made.result, made.status, made.event = "answered", 200, event
    record = record_of(made)
    assert record is not None
    made.news, made.event = encode_record(record), None
    if limits is not None:
        limits.free -= 100
        made.captured = 100
    return made


async def count(history: SqlHistory, events: int) -> None:
    """Wait until so many are stored."""
    found = -1
    with trio.fail_after(DEADLINE):
        while found < events:
            with contextlib.suppress(Unavailable):
                found = (await history.size()).events
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert found == events


async def called(history: Faulty) -> None:
    """Wait until the history has been asked."""
    with trio.fail_after(DEADLINE):
        while not history.calls:
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_history_that_is_away_gets_it_all_later(history: Faulty) -> None:
    limits = CaptureLimits(max_body=10_000, scheme="http")
    history.away = True
    made = make(history, MemoryJournal(max_batches=2), limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        for _ in range(6):
            made.take([outcome(limits) for _ in range(10)])
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert history.calls
        assert limits.free < 67_108_864  # what waits is still held
        history.away = False
        await count(history, 60)
        await made.finish(DEADLINE)
        nursery.cancel_scope.cancel()
    assert (made.recorded, made.dropped) == (60, 0)
    assert limits.free == 67_108_864


async def test_what_is_too_much_is_counted_and_let_go(
    history: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_PENDING", 25)
    limits = CaptureLimits(max_body=10_000, scheme="http")
    history.away = True
    made = make(history, MemoryJournal(max_batches=0), limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        made.take([outcome(limits)])
        await called(history)
        made.take([outcome(limits) for _ in range(40)])
        assert made.dropped == 15
        await made.finish(0.01)
        nursery.cancel_scope.cancel()
    assert 67_108_864 - limits.free == 25 * 100


async def test_one_bad_piece_of_news_costs_only_itself(history: Faulty) -> None:
    made = make(history, MemoryJournal())
    outcomes = [outcome() for _ in range(5)]
    history.poison = outcomes[2].event_id
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        made.take(outcomes)
        await count(history, 4)
        made.take([outcome()])
        await count(history, 5)
        nursery.cancel_scope.cancel()
    assert made.dropped == 1


async def test_an_outcome_that_no_batch_had_room_for_is_let_go() -> None:
    limits = CaptureLimits(max_body=10_000, scheme="http")
    recording = OutcomeRecorder(max_pending=1, dropping=limits.release)
    recording.record(outcome(limits))
    recording.record(outcome(limits))
    assert recording.dropped == 1
    assert limits.free == 67_108_864 - 100


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


async def test_a_cluster_records_while_its_database_is_away(server: RedisServer, tmp_path: Path) -> None:
    """Two conductors; PostgreSQL is killed under them, then Redis; nothing that either took is lost."""
    with running_postgres() as postgres:
        await _outages(server, postgres, tmp_path)


async def _outages(server: RedisServer, postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.database_of(tmp_path)
    await migrate_database(url, CONDUCTOR)
    async with (
        open_database(url, CONDUCTOR) as database,
        open_redis_journal(server.url, Sealer()) as one,
        open_redis_journal(server.url, Sealer()) as two,
        trio.open_nursery() as nursery,
    ):
        history = SqlHistory(database, Sealer())
        conductors = [make(history, one), make(history, two)]
        for made in conductors:
            nursery.start_soon(made.run)
        conductors[0].take([outcome() for _ in range(50)])
        await count(history, 50)
        postgres.kill()
        for made in conductors:
            made.take([outcome() for _ in range(50)])
            await made.finish(DEADLINE)  # in the journal
        postgres.start()
        await count(history, 150)
        server.kill()
        for made in conductors:
            made.take([outcome() for _ in range(50)])
        server.start()
        await count(history, 250)
        nursery.cancel_scope.cancel()
    assert [made.dropped for made in conductors] == [0, 0]


async def test_a_full_journal_is_tried_again(history: Faulty) -> None:
    class Full(MemoryJournal):
        refused = 0

        async def append(self, records: Sequence[News]) -> None:
            if self.refused < 3:
                self.refused += 1
                await trio.lowlevel.checkpoint()
                raise JournalFull
            await super().append(records)

    journal = Full()
    history.away = True
    made = make(history, journal)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        made.take([outcome()])
        with trio.fail_after(DEADLINE):
            while journal.refused < 3:
                await trio.testing.wait_all_tasks_blocked(0.01)
        history.away = False
        await count(history, 1)
        nursery.cancel_scope.cancel()
    assert journal.refused == 3


async def test_a_slow_history_does_not_hold_up_what_follows(
    history: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one batch takes long, the next ones go to the journal."""
    monkeypatch.setattr(recorder, "DIVERT_SECONDS", 0.01)
    begun, released = trio.Event(), trio.Event()

    class Slow(SqlHistory):
        async def record(self, records: Sequence[News]) -> None:
            begun.set()
            await released.wait()
            await history.record(records)

    class Counting(MemoryJournal):
        batches = 0

        async def append(self, records: Sequence[News]) -> None:
            await super().append(records)
            self.batches += 1

    journal = Counting()
    made = make(Slow(history._database, Sealer()), journal)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        made.take([outcome()])
        with trio.fail_after(DEADLINE):
            await begun.wait()
        made.take([outcome()])
        await until(lambda: not made._pending)
        made.take([outcome() for _ in range(2)])
        await until(lambda: journal.batches)
        released.set()
        await count(history, 4)
        await made.finish(DEADLINE)
        nursery.cancel_scope.cancel()
    assert made.dropped == 0
