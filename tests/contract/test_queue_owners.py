"""Who delivers: one owner of a project at a time, and nothing is lost when it goes. And what is put off."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.queues import LONG, UNLIMITED, QueueTwin, drain, event, fill, own, read
from whook.backplane.ports import NotOwner, Ownership, Queue

SHORT = 0.2
"""A lease that a test waits to end: by asking whether it has, never by the clock."""
LATER = 3600.0
SOON = 0.2
PRJ = "prj_shop"


async def check_refused(queue: Queue, ownership: Ownership, position: str) -> None:
    """Nothing can be done any more under this ownership."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: queue.read(ownership, limit=1, max_bytes=1, in_order=True),
        lambda: queue.settle(ownership, [position]),
        lambda: queue.settle(ownership, []),
        lambda: queue.defer(ownership, position, until=time.time() + LATER, failed=True),
    ]
    for call in calls:
        with pytest.raises(NotOwner, match=ownership.project_id):
            await call()


async def taken_over(queue: Queue, owner: str) -> Ownership:
    """Acquire the project as soon as the other's lease has ended."""
    await queue.attend(owner, LONG)
    with trio.fail_after(DEADLINE):
        while True:
            await trio.lowlevel.checkpoint()
            if (ownership := await queue.acquire(PRJ, owner)) is not None:
                return ownership


async def read_for_ever(queue: Queue, ownership: Ownership) -> None:
    while True:
        await read(queue, ownership)


async def test_attend_says_whether_the_lease_is_new(queue: Queue) -> None:
    assert await queue.attend("one", LONG) is False
    assert await queue.attend("one", LONG) is True
    assert await queue.attend("two", LONG) is False
    await queue.leave("one")
    await queue.leave("nobody")
    assert await queue.attend("one", LONG) is False
    assert await queue.attend("two", LONG) is True


async def test_a_lease_must_last(queue: Queue) -> None:
    for ttl in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="lease"):
            await queue.attend("one", ttl)


async def test_only_who_has_a_lease_can_own(queue: Queue) -> None:
    with pytest.raises(NotOwner):
        await queue.acquire(PRJ, "one")


async def test_a_project_has_one_owner(queue: Queue) -> None:
    await fill(queue, 2)
    ownership = await own(queue)
    await queue.attend("two", LONG)
    assert await queue.acquire(PRJ, "two") is None
    other = await own(queue, "blog", "two")
    assert other.owner == "two"
    assert len(await read(queue, ownership)) == 2


async def test_release_lets_the_next_one_in(queue: Queue) -> None:
    events = await fill(queue, 2)
    first = await own(queue)
    await read(queue, first, limit=1)
    await queue.release(first)
    second = await own(queue, owner="two")
    assert second.fence > first.fence
    entries = await read(queue, second)
    assert [(entry.event, entry.attempt) for entry in entries] == [(events[0], 2), (events[1], 1)]
    await check_refused(queue, first, entries[0].position)
    await queue.release(first)  # has ended, and harms nobody
    assert (await queue.settle(second, [entries[0].position])).count == 1


async def test_whoever_acquires_again_begins_anew(queue: Queue) -> None:
    """An answer may be lost on its way, or a task of the same process may have stayed behind."""
    await fill(queue, 1)
    first = await own(queue)
    [one] = await read(queue, first)
    second = await own(queue)
    assert second.fence > first.fence
    await check_refused(queue, first, one.position)
    [again] = await read(queue, second)
    assert (again.position, again.attempt) == (one.position, 2)


async def test_leaving_ends_every_ownership(queue: Queue) -> None:
    await fill(queue, 1)
    await fill(queue, 1, "blog")
    shop, blog = await own(queue), await own(queue, "blog")
    await queue.leave("one")
    await queue.attend("one", LONG)
    for ownership in (shop, blog):
        await check_refused(queue, ownership, "1")
    assert len(await read(queue, await own(queue, owner="two"))) == 1


async def test_the_next_one_gets_all_that_is_not_settled_in_order(queue: Queue) -> None:
    events = await fill(queue, 6)
    dead = await own(queue, ttl=SHORT)
    entries = await read(queue, dead, limit=4)
    await queue.settle(dead, [entries[1].position])
    later = await fill(queue, 2)
    ownership = await taken_over(queue, "two")
    assert ownership.fence > dead.fence
    await check_refused(queue, dead, entries[0].position)
    got = await read(queue, ownership, limit=3)
    got += await read(queue, ownership)
    assert [entry.event for entry in got] == [events[0], *events[2:], *later]
    assert [entry.attempt for entry in got] == [2, 2, 2, 1, 1, 1, 1]
    assert {entry.failures for entry in got} == {0}


async def test_a_lease_that_has_ended_owns_nothing_even_if_nobody_came(queue: Queue) -> None:
    await fill(queue, 1)
    ownership = await own(queue, ttl=SHORT)
    with trio.fail_after(DEADLINE), pytest.raises(NotOwner):
        await read_for_ever(queue, ownership)
    assert await queue.attend("one", LONG) is False
    await check_refused(queue, ownership, "1")
    with pytest.raises(NotOwner):
        await queue.acquire(PRJ, "two")


async def test_renewing_keeps_what_is_owned(queue: Queue) -> None:
    ownership = await own(queue, ttl=1.0)
    assert await queue.attend("one", LONG) is True
    await fill(queue, 1)
    assert len(await drain(queue, ownership)) == 1


async def test_two_programs_share_one_queue(queue_twin: QueueTwin, tmp_path: Path) -> None:
    async with queue_twin.open(tmp_path) as here, queue_twin.open(tmp_path) as there:
        events = await fill(here.queue, 3)
        first = await own(here.queue)
        await there.queue.attend("two", LONG)
        assert await there.queue.acquire(PRJ, "two") is None
        [one] = await read(here.queue, first, limit=1)
        await here.queue.leave("one")
        second = await own(there.queue, owner="two")
        await check_refused(here.queue, first, one.position)
        assert [entry.event for entry in await drain(there.queue, second)] == events
        assert await here.queue.backlogs() == {}


async def test_many_want_a_project_and_one_gets_it(queue: Queue) -> None:
    await fill(queue, 1)
    got: list[Ownership] = []

    async def want(owner: str) -> None:
        await queue.attend(owner, LONG)
        if (ownership := await queue.acquire(PRJ, owner)) is not None:
            got.append(ownership)

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(want, f"owner {number}:x")
    assert len(got) == 1
    assert len(await read(queue, got[0])) == 1


async def test_what_is_deferred_comes_later_and_others_before_it(queue: Queue) -> None:
    events = await fill(queue, 3)
    ownership = await own(queue)
    entries = await read(queue, ownership, limit=2)
    until = time.time() + LATER
    await queue.defer(ownership, entries[0].position, until=until, failed=True)
    batch = await queue.read(ownership, limit=9, max_bytes=99, in_order=False)
    assert [entry.event for entry in batch.entries] == events[2:]
    assert batch.next_due == pytest.approx(until, abs=0.001)
    assert (await queue.backlog(PRJ)).count == 3


async def test_in_order_what_is_deferred_holds_back_all_behind_it(queue: Queue) -> None:
    events = await fill(queue, 4)
    ownership = await own(queue)
    entries = await read(queue, ownership, limit=3)
    first, second = time.time() + 2 * LATER, time.time() + LATER
    await queue.defer(ownership, entries[1].position, until=first, failed=True)
    await queue.defer(ownership, entries[2].position, until=second, failed=True)
    batch = await queue.read(ownership, limit=9, max_bytes=99, in_order=True)
    # Nothing can be read before the first of them is due, whenever the other one is.
    assert batch.entries == []
    assert batch.next_due == pytest.approx(first, abs=0.001)
    await queue.release(ownership)
    again = await own(queue)
    assert [entry.event for entry in await read(queue, again)] == events[:1]
    await queue.settle(again, [entries[0].position, entries[1].position])
    batch = await queue.read(again, limit=9, max_bytes=99, in_order=True)
    assert batch.entries == []
    assert batch.next_due == pytest.approx(second, abs=0.001)
    free = await queue.read(again, limit=9, max_bytes=99, in_order=False)
    assert [entry.event for entry in free.entries] == events[3:]
    assert free.next_due == pytest.approx(second, abs=0.001)


async def test_a_deferred_one_comes_back_in_its_place_and_counts(queue: Queue) -> None:
    events = await fill(queue, 3)
    ownership = await own(queue)
    one, two = await read(queue, ownership, limit=2)
    await queue.defer(ownership, two.position, until=0, failed=False)
    await queue.defer(ownership, one.position, until=time.time() + SOON, failed=True)
    with trio.fail_after(DEADLINE):
        entries = await read(queue, ownership)
        while not entries:
            entries = await read(queue, ownership)
    assert [entry.event for entry in entries] == events
    assert [(entry.attempt, entry.failures) for entry in entries] == [(2, 1), (2, 0), (1, 0)]
    assert await read(queue, ownership) == []
    await queue.defer(ownership, one.position, until=0, failed=True)
    [third] = await read(queue, ownership)
    assert (third.event, third.attempt, third.failures) == (events[0], 3, 2)


async def test_deferring_does_nothing_to_what_was_not_given_out(queue: Queue) -> None:
    await fill(queue, 2)
    ownership = await own(queue)
    [one] = await read(queue, ownership, limit=1)
    await queue.defer(ownership, one.position, until=time.time() + LATER, failed=True)
    # Known, but deferred already; unknown; no position at all.
    for position in (one.position, "1", "", "x", "1-1"):
        await queue.defer(ownership, position, until=0, failed=True)
    batch = await queue.read(ownership, limit=9, max_bytes=99, in_order=False)
    assert len(batch.entries) == 1
    assert batch.next_due is not None
    await queue.settle(ownership, [one.position])
    await queue.defer(ownership, one.position, until=0, failed=True)
    assert (await queue.backlog(PRJ)).count == 1
    batch = await queue.read(ownership, limit=9, max_bytes=99, in_order=False)
    assert (batch.entries, batch.next_due) == ([], None)


async def test_what_was_deferred_stays_so_under_the_next_owner(queue: Queue) -> None:
    events = await fill(queue, 2)
    first = await own(queue)
    one, _ = await read(queue, first)
    until = time.time() + LATER
    await queue.defer(first, one.position, until=until, failed=True)
    await queue.leave("one")
    second = await own(queue, owner="two")
    batch = await queue.read(second, limit=9, max_bytes=99, in_order=False)
    assert [(entry.event, entry.attempt) for entry in batch.entries] == [(events[1], 2)]
    assert batch.next_due == pytest.approx(until, abs=0.001)


async def test_many_that_are_due_at_once_come_in_order(queue: Queue) -> None:
    events = await fill(queue, 1200)
    ownership = await own(queue)
    for entry in reversed(await read(queue, ownership, limit=1200)):
        await queue.defer(ownership, entry.position, until=1.0, failed=True)
    entries = await drain(queue, ownership, limit=500)
    assert [entry.event for entry in entries] == events
    assert {(entry.attempt, entry.failures) for entry in entries} == {(2, 1)}


async def test_a_cancelled_append_may_be_stored_and_leaves_no_trace_in_the_counts(queue: Queue) -> None:
    await fill(queue, 1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await fill(queue, 1)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(fill, queue, 1)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    stored = event()
    await queue.append(stored, UNLIMITED)
    ownership = await own(queue)
    entries = await drain(queue, ownership)
    # One that was under way may still come, behind what was appended later.
    with trio.fail_after(DEADLINE):
        while await queue.backlogs():
            entries += await drain(queue, ownership)
    assert [entry.event for entry in entries].count(stored) == 1
    assert len({entry.event.id for entry in entries}) == len(entries)
