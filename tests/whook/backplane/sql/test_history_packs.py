"""Packs and rows hold the same: whatever is told in whatever order, nobody who reads can tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
import sqlalchemy as sa
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from tests.support.history import SHOP, T0, EncodingHistory, answered, as_sent, delivered, news, stored_event
from whook.backplane.ports import EventDetail, EventQuery, EventSummary, News, Record, State
from whook.backplane.sql import CONDUCTOR, SqlHistory, open_database, sqlite_url
from whook.backplane.sql.database import Database
from whook.backplane.sql.history_packs import Packing
from whook.backplane.sql.history_tables import events, packs
from whook.chassis.ids import id_bound, id_milliseconds, new_id
from whook.chassis.sealing import Sealer

KEY = Sealer([bytes(range(32))])
FOR_EVER = 1 << 60


def rows_and_packs(connection: Connection) -> tuple[int, list[int]]:
    rows = connection.scalar(sa.select(sa.func.count()).select_from(events))
    return int(rows or 0), list(connection.scalars(sa.select(packs.c.events).order_by(packs.c.sequence)))


async def placed(database: Database) -> tuple[int, list[int]]:
    """Give how many events have rows, and how many are in each pack."""
    return await database.read(rows_and_packs)


@pytest.mark.parametrize("sealer", [Sealer(), KEY], ids=["plain", "sealed"])
async def test_many_of_one_project_share_rows(tmp_path: Path, sealer: Sealer) -> None:
    many = [answered(T0 + n) for n in range(300)]
    few = [answered(T0 + n, "prj_blog") for n in range(15)]
    async with open_database(sqlite_url(tmp_path / "c.db"), CONDUCTOR) as database:
        history = EncodingHistory(database, sealer)
        await history.record(many + few)
        assert await placed(database) == (15, [256, 44])
        found = await history.find(SHOP, EventQuery(limit=500))
        assert [summary.id for summary in found] == [record.event_id for record in reversed(many)]
        # More news of one of them: those that it shared a row with get rows of their own.
        event = many[290].event
        assert event is not None
        await history.record([news(event, "buffered", delivered(event, 2), at=T0 + 999, known=True)])
        assert await placed(database) == (15 + 44, [256])
        assert await history.find(SHOP, EventQuery(limit=500, states=("answered",))) == [
            summary for summary in found if summary.id != event.id
        ]
        assert (await history.size()).events == 315


async def test_a_pack_has_its_limits(tmp_path: Path) -> None:
    large = [answered(T0 + n, body=bytes(1000)) for n in range(5)]
    old = [answered(T0, id=id_bound("evt", 1_000_000 + n).ljust(30, "0")) for n in range(4)]
    odd = [answered(T0, id=f"evt_{n}") for n in range(4)]
    async with open_database(sqlite_url(tmp_path / "c.db"), CONDUCTOR) as database:
        history = EncodingHistory(database, Sealer(), Packing(least=2, most=4, most_bytes=3200))
        await history.record(large)
        assert await placed(database) == (0, [2, 2, 1])
        # What was made much earlier cannot be found by its id in a pack.
        await history.record([*old[:3], answered(T0)])
        assert await placed(database) == (3, [2, 2, 1, 1])
        await history.record(odd)
        assert await placed(database) == (7, [2, 2, 1, 1])
        for record in (*large, *old[:3], *odd):
            detail = await history.get(SHOP, record.event_id)
            assert detail is not None
            assert (detail.event, detail.deliveries) == (record.event, [record.delivery])


async def test_it_is_found_by_id_and_its_neighbours_are_not(tmp_path: Path) -> None:
    records = [answered(T0 + n) for n in range(20)]
    async with open_database(sqlite_url(tmp_path / "c.db"), CONDUCTOR) as database:
        history = EncodingHistory(database, KEY)
        between = new_id("evt")
        await history.record([*records, answered()])
        for other in (between, new_id("evt"), "evt_", "", records[0].event_id[:-1], "evt_" + "~" * 26):
            assert await history.get(SHOP, other) is None
        assert await history.get("prj_blog", records[3].event_id) is None
        assert await history.find(SHOP, EventQuery(after="evt_" + "~" * 26)) == []


# -- against a history of rows alone ---------------------------------------------------------------------


class Told(NamedTuple):
    """A piece of news in a test: of which event, and what."""

    event: int
    what: str


def news_of(events_known: Sequence[Record], told: Told) -> Record:
    whole = events_known[told.event]
    event = whole.event
    assert event is not None
    if told.what == "first":
        return whole
    later = delivered(event, 2, status=500 if told.what == "failed" else 200, origin="replay")
    state: State = "buffered" if told.what == "failed" else "answered"
    return news(event, state, later, at=T0 + 100 + told.event, known=told.what == "failed")


tellings = st.lists(
    st.lists(
        st.builds(Told, st.integers(0, 11), st.sampled_from(("first", "first", "failed", "later"))),
        max_size=12,
    ),
    min_size=1,
    max_size=5,
)
queries = [
    EventQuery(),
    EventQuery(oldest_first=True, limit=5),
    EventQuery(since=T0 + 3, until=T0 + 9),
    EventQuery(states=("refused",), limit=3),
    EventQuery(states=("buffered", "answered"), oldest_first=True),
    EventQuery(failed=True),
    EventQuery(grep="needle"),
]


def make_events() -> list[Record]:
    made: list[Record] = []
    for n in range(12):
        event = stored_event(T0 + n // 2, body=b"needle" if n % 3 == 0 else b"hay")
        state: State = "refused" if n % 4 == 0 else "buffered" if n % 4 == 1 else "answered"
        delivery = delivered(event, status=0 if state != "answered" else 404 if n % 5 == 0 else 200)
        made.append(news(event, state, delivery, at=T0 + n // 2))
    return made


class Seen(NamedTuple):
    """All that can be read of a history, but for the order in which it was told."""

    lists: list[list[EventSummary]]
    details: list[EventDetail | None]
    followed: set[str]
    events: int


def without_sequence(summary: EventSummary) -> EventSummary:
    values = {name: getattr(summary, name) for name in EventSummary.__slots__}  # type: ignore[attr-defined]
    return EventSummary(**(values | {"sequence": 0}))


async def look(history: SqlHistory, made: Sequence[Record]) -> Seen:
    lists = [[without_sequence(one) for one in await history.find(SHOP, query)] for query in queries]
    for oldest_first in (False, True):
        pages: list[EventSummary] = []
        while page := await history.find(
            SHOP, EventQuery(limit=2, oldest_first=oldest_first, after=pages[-1].id if pages else "")
        ):
            pages += page
        lists.append([without_sequence(one) for one in pages])
    details: list[EventDetail | None] = []
    for record in made:
        detail = await history.get(SHOP, record.event_id)
        if detail is not None:
            detail = EventDetail(
                summary=without_sequence(detail.summary), event=detail.event, deliveries=detail.deliveries
            )
        details.append(detail)
    followed: list[EventSummary] = []
    while more := await history.follow(SHOP, followed[-1].sequence if followed else 0, 3):
        followed += more
    sequences = [one.sequence for one in followed]
    assert sequences == sorted(set(sequences))
    assert await history.follow(SHOP, -1, 1) == followed[-1:]
    return Seen(lists, details, {one.id for one in followed}, (await history.size()).events)


@given(tellings, st.integers(1, 4), st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_nobody_can_tell_packs_from_rows(told: list[list[Told]], most: int, cut: int) -> None:
    async def main() -> None:
        made = make_events()
        with TemporaryDirectory() as folder:
            async with (
                open_database(sqlite_url(Path(folder) / "rows.db"), CONDUCTOR) as one,
                open_database(sqlite_url(Path(folder) / "packs.db"), CONDUCTOR) as two,
            ):
                plain, packed = SqlHistory(one, Sealer()), SqlHistory(two, KEY, Packing(least=1, most=most))
                for batch in told:
                    records = [news_of(made, piece) for piece in batch]
                    sent: list[News] = [as_sent(record) for record in records]
                    await plain.record(records)
                    await packed.record(sent)
                assert await look(packed, made) == await look(plain, made)
                # Neither keeps what is younger than the cut, nor the packs more than their youngest.
                await plain.prune(before=T0 + cut, keep_bytes=FOR_EVER, dead_before=T0)
                await packed.prune(before=T0 + cut, keep_bytes=FOR_EVER, dead_before=T0)
                kept = {one.id for one in await plain.find(SHOP, EventQuery(limit=99))}
                assert kept <= {one.id for one in await packed.find(SHOP, EventQuery(limit=99))}
                await packed.prune(before=T0 + 1000, keep_bytes=FOR_EVER, dead_before=T0 + 1000)
                assert await two.read(rows_and_packs) == (len(await waiting(packed)), [])

    trio.run(main)


async def waiting(history: SqlHistory) -> list[EventSummary]:
    return await history.find(SHOP, EventQuery(states=("buffered",), limit=99))


def test_a_bound_stands_between_what_was_made_before_and_later() -> None:
    made = new_id("evt")
    at = id_milliseconds(made)
    assert id_bound("evt", at) < made < id_bound("evt", at + 1)
