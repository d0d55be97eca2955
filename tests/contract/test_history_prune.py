"""What every history must delete, and what it must keep; and what becomes of bodies that are apart."""

from __future__ import annotations

import random

import pytest

from tests.support.history import SHOP, T0, answered, delivered, news, stored_event
from whook.backplane.ports import Blobs, EventQuery, History, Record
from whook.backplane.sql.history_packs import Packing
from whook.chassis.sealing import Sealer


@pytest.fixture
def packing(sealer: Sealer) -> Packing | None:
    """Packs of one event each: what shares a pack with something newer is kept for that long."""
    return Packing(least=1, most=1) if sealer.seals else None


FOR_EVER = 1 << 60


async def left(history: History, *projects: str) -> set[str]:
    found: set[str] = set()
    for project in projects or (SHOP,):
        found |= {summary.id for summary in await history.find(project, EventQuery(limit=10_000))}
    return found


async def test_what_is_too_old_goes(history: History) -> None:
    records = [answered(T0 + n, f"prj_{n % 3}") for n in range(900)]
    random.Random(2).shuffle(records)
    await history.record(records)
    gone = await history.prune(before=T0 + 850, keep_bytes=FOR_EVER, dead_before=T0 - 1)
    assert gone == 850
    kept = {record.event_id for record in records if record.at >= T0 + 850}
    assert await left(history, "prj_0", "prj_1", "prj_2") == kept
    assert (await history.size()).events == 50


async def test_the_oldest_go_when_it_is_too_much(history: History) -> None:
    records = [answered(T0 + n, f"prj_{n % 2}") for n in range(300)]
    for first in range(0, 300, 10):  # within one batch there is no order between projects
        await history.record(records[first : first + 10])
    whole = (await history.size()).bytes
    gone = await history.prune(before=0, keep_bytes=whole // 2, dead_before=0)
    assert gone == 150
    kept = {record.event_id for record in records[150:]}
    assert await left(history, "prj_0", "prj_1") == kept
    assert (await history.size()).bytes <= whole // 2
    assert await history.prune(before=0, keep_bytes=whole // 2, dead_before=0) == 0


async def test_nothing_is_left_of_the_size_when_all_is_gone(history: History) -> None:
    event = stored_event(body=bytes(300_000))
    await history.record([answered(T0), news(event, "answered", delivered(event))])
    await history.record([news(event, "answered", delivered(event, 2), at=T0 + 1, known=True)])
    assert await history.prune(before=T0 + 1, keep_bytes=FOR_EVER, dead_before=0) == 2
    size = await history.size()
    assert (size.events, size.bytes) == (0, 0)


async def test_what_waits_or_died_lately_stays(history: History) -> None:
    def one(state: str, at: float) -> Record:
        return news(stored_event(at), state)  # type: ignore[arg-type]

    waiting = one("buffered", T0)
    dead = one("dead", T0 + 50)
    long_dead = one("dead", T0)
    await history.record([waiting, dead, long_dead, one("refused", T0), answered(T0 + 60)])
    kept = {waiting.event_id, dead.event_id}
    assert await history.prune(before=T0 + 100, keep_bytes=0, dead_before=T0 + 10) == 3
    assert await left(history) == kept


async def test_a_delivery_whose_event_never_came_goes_too(history: History) -> None:
    event = stored_event()
    await history.record([news(event, "buffered", delivered(event, 2), known=True)])
    assert await history.prune(before=T0 + 10, keep_bytes=FOR_EVER, dead_before=0) == 1
    assert (await history.size()).events == 0


async def test_bodies_go_with_their_events_unless_a_replay_may_need_them(
    history: History, blobs: Blobs
) -> None:
    large = stored_event(body=None, body_size=300_000)
    await blobs.put(large.id, bytes(300_000))
    small = answered(T0)
    await history.record([news(large, "answered", delivered(large)), small])
    found = await history.get(SHOP, large.id)
    assert found is not None
    assert found.event.body == bytes(300_000)

    assert await history.prune(before=T0 + 1, keep_bytes=0, dead_before=0, waiting={SHOP}) == 1
    assert await left(history) == {large.id}
    assert await blobs.get(large.id) is not None
    assert await history.prune(before=T0 + 1, keep_bytes=0, dead_before=0, waiting={"prj_other"}) == 1
    assert await blobs.get(large.id) is None


async def test_a_body_that_was_not_kept_is_none(history: History) -> None:
    event = stored_event(body=None, body_size=5_000_000)
    await history.record([news(event, "answered", delivered(event))])
    found = await history.get(SHOP, event.id)
    assert found is not None
    assert (found.event.body, found.event.body_size) == (None, 5_000_000)


async def test_one_caller_prunes(history: History) -> None:
    assert await history.claim_pruning(60.0)
    assert not await history.claim_pruning(60.0)
    assert await history.claim_pruning(0.0)
