"""What every history must do: record, list, follow, give back every byte."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import msgspec
import pytest
import trio

from tests.support.history import SHOP, T0, answered, delivered, news, stored_event
from tests.support.twins import StoreTwin
from whook.backplane.ports import EventPlace, EventQuery, EventSummary, History, Record
from whook.backplane.sql.history_packs import Packing
from whook.chassis.ids import new_id
from whook.chassis.sealing import Sealer


def ids(found: list[EventSummary]) -> list[str]:
    return [summary.id for summary in found]


async def test_an_empty_history(history: History) -> None:
    assert await history.find(SHOP, EventQuery()) == []
    assert await history.follow(SHOP, -1, 10) == []
    assert await history.get(SHOP, new_id("evt")) is None
    assert (await history.size()).events == 0
    await history.record([])


async def test_what_is_recorded_is_given_back_byte_for_byte(history: History) -> None:
    event = stored_event(trailers=[(b"T", b"\x80")], body=bytes(range(256)))
    delivery = delivered(event)
    await history.record([news(event, "answered", delivery)])
    found = await history.get(SHOP, event.id)
    assert found is not None
    assert found.event == event
    assert found.deliveries == [delivery]
    assert found.summary == EventSummary(
        id=event.id,
        sequence=found.summary.sequence,
        project_id=SHOP,
        project="shop",
        received_at=event.received_at,
        method="POST",
        target="/hook?a=%20b",
        peer="192.0.2.7",
        body_size=256,
        state="answered",
        deliveries=1,
        last_status=200,
        last_problem="",
        last_duration=0.5,
    )
    assert await history.find(SHOP, EventQuery()) == [found.summary]


async def test_a_target_that_is_no_text_is_shown_all_the_same(history: History) -> None:
    event = stored_event(target=b"/caf\xc3\xa9/\xff")
    await history.record([news(event, "refused")])
    assert (await history.find(SHOP, EventQuery()))[0].target == "/caf\u00e9/\\xff"


async def test_an_event_is_its_projects_alone(history: History) -> None:
    mine, theirs = answered(), answered(project_id="prj_blog")
    await history.record([mine, theirs])
    assert await history.get("prj_blog", mine.event_id) is None
    assert ids(await history.find("prj_blog", EventQuery())) == [theirs.event_id]
    assert ids(await history.follow("prj_blog", 0, 10)) == [theirs.event_id]


async def test_an_event_is_located_by_its_id_alone(history: History) -> None:
    mine, theirs = answered(), answered(project_id="prj_blog")
    await history.record([mine, theirs])
    assert await history.locate(mine.event_id) == EventPlace(project_id=SHOP, project="shop")
    place = await history.locate(theirs.event_id)
    assert place is not None
    assert place.project_id == "prj_blog"
    assert await history.locate(new_id("evt")) is None
    assert await history.locate("' or 1=1 --") is None
    # Of one whose delivery is known before itself there is nothing to show yet.
    event = stored_event()
    await history.record([news(event, "answered", delivered(event), known=True)])
    assert await history.locate(event.id) is None
    await history.record([news(event, "buffered")])
    assert await history.locate(event.id) is not None


async def test_dead_letters_are_counted_by_project(history: History) -> None:
    assert await history.dead_letters() == {}
    first, second = stored_event(), stored_event()
    await history.record([answered(), news(first, "dead"), news(second, "dead")])
    await history.record([msgspec.structs.replace(answered(project_id="prj_blog"), state="dead")])
    assert await history.dead_letters() == {SHOP: 2, "prj_blog": 1}
    await history.record([news(first, "answered", delivered(first), at=T0 + 9, known=True)])
    assert await history.dead_letters() == {SHOP: 1, "prj_blog": 1}


async def test_the_later_state_stands_in_whatever_order_it_comes(history: History) -> None:
    event = stored_event()
    first = news(event, "buffered")
    failed = news(event, "buffered", delivered(event, 2, status=503), at=T0 + 5)
    done = news(event, "answered", delivered(event, 3), at=T0 + 9, known=True)
    for order in itertools.permutations([first, failed, done]):
        fresh = msgspec.structs.replace(event, id=new_id("evt"))
        await history.record([_of(fresh, record) for record in order])
        apart = msgspec.structs.replace(event, id=new_id("evt"))
        for record in order:
            await history.record([_of(apart, record)])
        for one in (fresh, apart):
            found = await history.get(SHOP, one.id)
            assert found is not None
            assert found.event == one
            assert (found.summary.state, found.summary.deliveries) == ("answered", 2)
            assert found.summary.last_status == 200
            assert [delivery.attempt for delivery in found.deliveries] == [2, 3]
    assert (await history.size()).events == 12


def _of(event: object, record: Record) -> Record:
    """Give the same news of another event."""
    event_id = event.id  # type: ignore[attr-defined]
    delivery = record.delivery
    return msgspec.structs.replace(
        record,
        event_id=event_id,
        event=None if record.event is None else event,
        delivery=None if delivery is None else msgspec.structs.replace(delivery, event_id=event_id),
    )


async def test_repeated_news_changes_nothing(history: History) -> None:
    event = stored_event()
    batch = [
        *(answered(T0 + n) for n in range(5)),
        news(event, "buffered", delivered(event, status=0)),
        news(event, "answered", delivered(event, 2), at=T0 + 3),
    ]
    await history.record(batch)
    listed, size = await history.find(SHOP, EventQuery()), await history.size()
    for again in (batch, batch[::-1], [*batch, *batch], batch[3:4]):
        await history.record(again)
        assert await history.find(SHOP, EventQuery()) == listed
        assert await history.size() == size
    found = await history.get(SHOP, event.id)
    assert found is not None
    assert [delivery.attempt for delivery in found.deliveries] == [1, 2]


async def test_a_live_delivery_that_comes_after_a_later_one(history: History) -> None:
    event = stored_event()
    await history.record([news(event, "answered", delivered(event, 2), at=T0 + 4)])
    await history.record([news(event, "buffered", delivered(event, status=0))])
    found = await history.get(SHOP, event.id)
    assert found is not None
    assert [delivery.attempt for delivery in found.deliveries] == [1, 2]
    assert (found.summary.state, found.summary.last_status) == ("answered", 200)


async def test_two_replays_with_the_same_number_are_two(history: History) -> None:
    event = stored_event()
    again = [delivered(event, 2, origin="replay", began_at=T0 + n) for n in (10, 11)]
    await history.record([news(event, "answered", delivered(event))])
    await history.record([news(event, "answered", delivery, at=T0 + 12, known=True) for delivery in again])
    found = await history.get(SHOP, event.id)
    assert found is not None
    assert found.deliveries[1:] == again


async def test_a_delivery_without_its_event_is_not_listed(history: History) -> None:
    event = stored_event()
    await history.record([news(event, "answered", delivered(event, 2), at=T0 + 1, known=True)])
    assert await history.find(SHOP, EventQuery()) == []
    assert await history.follow(SHOP, 0, 10) == []
    assert await history.get(SHOP, event.id) is None


async def test_lists_page_by_page_in_both_directions(history: History) -> None:
    records = [answered(T0 + n // 3) for n in range(20)]  # several at the same moment
    expected = [record.event_id for record in records]
    random.Random(4).shuffle(records)
    for record in records:
        await history.record([record])
    for oldest_first in (True, False):
        got: list[str] = []
        after = ""
        while page := await history.find(SHOP, EventQuery(oldest_first=oldest_first, limit=7, after=after)):
            got += ids(page)
            after = got[-1]
        assert got == (expected if oldest_first else expected[::-1])


async def test_a_cursor_that_was_pruned_goes_on_about_where_it_was(history: History) -> None:
    await history.record([answered(T0 + n) for n in range(3)])
    gone = new_id("evt")  # made now, long after
    assert len(await history.find(SHOP, EventQuery(after=gone))) == 3
    assert await history.find(SHOP, EventQuery(after=gone, oldest_first=True)) == []
    assert await history.find(SHOP, EventQuery(after="nonsense")) == []


async def test_since_and_until(history: History) -> None:
    records = [answered(T0 + n) for n in range(6)]
    await history.record(records)
    found = await history.find(SHOP, EventQuery(since=T0 + 1, until=T0 + 4, oldest_first=True))
    assert ids(found) == [record.event_id for record in records[1:4]]


async def test_states_and_failures(history: History) -> None:
    def one(state: str, status: int | None, problem: str = "") -> Record:
        event = stored_event()
        delivery = None if status is None else delivered(event, status=status, problem=problem)
        return news(event, state, delivery)  # type: ignore[arg-type]

    good = one("answered", 200)
    bad = one("answered", 500)
    odd = one("answered", 404)
    waiting = one("buffered", None)
    lost = one("buffered", 0, "tunnel-lost")
    dead = one("dead", None)
    refused = one("refused", 0, "no-tunnel")
    broken = one("refused", 200, "sender-gone")
    await history.record([good, bad, odd, waiting, lost, dead, refused, broken])

    async def found(query: EventQuery) -> set[str]:
        return set(ids(await history.find(SHOP, query)))

    failed = {record.event_id for record in (bad, odd, lost, dead, refused, broken)}
    assert await found(EventQuery(failed=True)) == failed
    assert await found(EventQuery(states=("buffered",))) == {waiting.event_id, lost.event_id}
    assert await found(EventQuery(states=("dead", "refused"))) == {
        record.event_id for record in (dead, refused, broken)
    }
    assert await found(EventQuery(failed=True, states=("buffered",))) == {lost.event_id}


async def test_follow_gives_what_is_recorded_later(history: History) -> None:
    early, late = answered(T0), answered(T0 - 100)  # received earlier, recorded later
    await history.record([early])
    newest = await history.follow(SHOP, -1, 10)
    assert ids(newest) == [early.event_id]
    cursor = newest[-1].sequence
    assert await history.follow(SHOP, cursor, 10) == []
    await history.record([late, answered(project_id="prj_blog")])
    assert ids(await history.follow(SHOP, cursor, 10)) == [late.event_id]


async def test_an_event_that_comes_after_its_delivery_is_followed(history: History) -> None:
    event = stored_event()
    await history.record([news(event, "answered", delivered(event, 2), at=T0 + 1, known=True)])
    await history.record([answered()])
    cursor = (await history.follow(SHOP, -1, 1))[0].sequence
    await history.record([news(event, "buffered")])
    assert ids(await history.follow(SHOP, cursor, 10)) == [event.id]


async def test_many_writers_never_let_a_follower_miss_one(
    store_twin: StoreTwin, sealer: Sealer, packing: Packing | None, tmp_path: Path
) -> None:
    """Whatever a follower sees, nothing that it has not seen gets a smaller sequence later."""
    written: list[str] = []
    seen: list[str] = []
    done = trio.Event()

    async def write(history: History) -> None:
        for _ in range(15):
            batch = [answered() for _ in range(7)]
            await history.record(batch)
            written.extend(record.event_id for record in batch)

    async def follow(history: History) -> None:
        cursor = 0
        while True:
            last = done.is_set()
            found = await history.follow(SHOP, cursor, 20)
            seen.extend(ids(found))
            if found:
                assert [s.sequence for s in found] == sorted({s.sequence for s in found})
                cursor = found[-1].sequence
            elif last:
                return

    async with (
        store_twin.open_history(tmp_path, sealer, packing) as (here, _),
        store_twin.open_history(tmp_path, sealer, packing) as (there, _),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(follow, here)
        async with trio.open_nursery() as writers:
            for history in (here, here, there, there):
                writers.start_soon(write, history)
        done.set()
    assert len(seen) == len(set(seen))
    assert set(seen) == set(written)
    assert len(seen) == 4 * 15 * 7


async def test_it_outlives_the_store(
    store_twin: StoreTwin, sealer: Sealer, packing: Packing | None, tmp_path: Path
) -> None:
    record = answered()
    async with store_twin.open_history(tmp_path, sealer, packing) as (history, _):
        await history.record([record])
    async with store_twin.open_history(tmp_path, sealer, packing) as (history, _):
        found = await history.get(SHOP, record.event_id)
    assert found is not None
    assert found.event == record.event


@pytest.mark.parametrize("size", [262_144, 262_145, 3_000_000])
async def test_a_large_body_is_given_back(history: History, size: int) -> None:
    body = random.Random(size).randbytes(size)
    record = answered(body=body)
    await history.record([record])
    found = await history.get(SHOP, record.event_id)
    assert found is not None
    assert found.event.body == body
    assert (await history.size()).bytes > size
