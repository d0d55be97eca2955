"""What every Queue must do: keep order and bytes, hold its limits exactly, and tell of every change."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.queues import (
    UNLIMITED,
    OpenQueue,
    QueueTwin,
    drain,
    event,
    fill,
    limits,
    next_change,
    own,
    read,
)
from whook.backplane.ports import (
    TOPIC_BACKLOG,
    Backlog,
    BacklogGone,
    BacklogSet,
    Queue,
    QueueFull,
    StoredEvent,
    Unavailable,
)
from whook.chassis.sealing import Sealer

NOTHING = Backlog(count=0, bytes=0, oldest_at=0.0)


async def test_a_new_queue_is_empty(queue: Queue) -> None:
    assert await queue.backlogs() == {}
    assert await queue.backlog("prj_shop") == NOTHING
    ownership = await own(queue)
    batch = await queue.read(ownership, limit=10, max_bytes=10, in_order=True)
    assert (batch.entries, batch.next_due) == ([], None)
    assert await queue.settle(ownership, []) == NOTHING


async def test_events_come_in_the_order_in_which_they_were_appended(queue: Queue) -> None:
    events = await fill(queue, 25)
    ownership = await own(queue)
    entries = await drain(queue, ownership, limit=7)
    assert [entry.event for entry in entries] == events
    assert {(entry.origin, entry.attempt, entry.failures) for entry in entries} == {("buffered", 1, 0)}
    assert len({entry.position for entry in entries}) == 25
    assert await queue.backlogs() == {}


async def test_new_ones_come_behind_while_old_ones_are_delivered(queue: Queue) -> None:
    first = await fill(queue, 3)
    ownership = await own(queue)
    early = await read(queue, ownership, limit=2)
    second = await fill(queue, 2)
    await queue.settle(ownership, [early[1].position])
    late = await read(queue, ownership)
    assert [entry.event for entry in (*early, *late)] == first + second


async def test_what_was_given_out_is_not_given_out_again(queue: Queue) -> None:
    events = await fill(queue, 3)
    ownership = await own(queue)
    assert len(await read(queue, ownership, limit=2)) == 2
    assert [entry.event for entry in await read(queue, ownership)] == events[2:]
    assert await read(queue, ownership) == []


async def test_a_batch_is_bounded_in_number_and_bytes(queue: Queue) -> None:
    for size in (10, 10, 10, 500, 10):
        await queue.append(event(body=bytes(size)), UNLIMITED)
    await queue.append(event(body=None, body_size=10**7), UNLIMITED)
    ownership = await own(queue)
    assert await read(queue, ownership, limit=0) == []
    sizes = []
    while entries := await read(queue, ownership, limit=2, max_bytes=25):
        sizes.append([entry.event.body_size for entry in entries])
    assert sizes == [[10, 10], [10], [500], [10], [10**7]]


@pytest.mark.parametrize(
    "changes",
    [
        {"body": bytes(range(256)) * 4, "method": b"\x00", "target": b"\xff\r\n"},
        {"body": b"", "headers": [], "peer": "", "received_at": 0.1},
        {"body": None, "body_size": 2**40, "trusted": True, "version": b"1.0"},
        {"headers": [(b"", b""), (b"X", bytes(range(256))), (b"x", b"1"), (b"X", b"2")]},
        {"trailers": [(b"Digest", b"\x80\x00")], "peer": "2001:db8::1%ü"},
        {"body": bytes(262_144)},
    ],
)
async def test_every_byte_is_kept(queue: Queue, changes: dict[str, Any]) -> None:
    stored = event(**changes)
    await queue.append(stored, UNLIMITED)
    [entry] = await drain(queue, await own(queue))
    assert entry.event == stored


async def test_much_beside_the_body(queue: Queue) -> None:
    """A body that is elsewhere counts like one that is here."""
    headers = [(b"x-%d" % number, bytes([number % 256]) * 500) for number in range(400)]
    stored = event(body=None, body_size=50_000_000, headers=headers, target=b"/" + b"t" * 60_000)
    await queue.append(stored, UNLIMITED)
    assert 50_260_000 < (await queue.backlog("prj_shop")).bytes < 50_270_000
    [entry] = await read(queue, await own(queue))
    assert entry.event == stored


async def test_one_event_can_be_queued_more_than_once(queue: Queue) -> None:
    stored = event()
    old = event(received_at=1000.0)
    await queue.append(stored, UNLIMITED)
    await queue.append(old, UNLIMITED, origin="replay", attempts=3)
    await queue.append(stored, UNLIMITED, origin="replay", attempts=1)
    ownership = await own(queue)
    entries = await read(queue, ownership)
    assert [(entry.event, entry.origin, entry.attempt) for entry in entries] == [
        (stored, "buffered", 1),
        (old, "replay", 4),
        (stored, "replay", 2),
    ]
    left = await queue.settle(ownership, [entries[0].position])
    # It has waited since it was asked for, not since it was received.
    assert left.count == 2
    assert abs(left.oldest_at - time.time()) < DEADLINE
    assert (await queue.settle(ownership, [entries[1].position])).count == 1


async def test_settling_removes_once_and_passes_over_what_is_unknown(queue: Queue) -> None:
    await fill(queue, 3)
    await fill(queue, 1, "blog")
    ownership = await own(queue)
    [blog] = await read(queue, await own(queue, "blog"))
    entries = await read(queue, ownership)
    one = entries[1].position
    odd = ["", "x", "-1", "0", "99999999999999", "9" * 40, "1-0", "²", blog.position]
    assert (await queue.settle(ownership, [one, *odd, one])).count == 2
    left = await queue.settle(ownership, [one])
    assert (left.count, left.oldest_at) == (2, entries[0].event.received_at)
    assert (await queue.backlog("prj_blog")).count == 1
    assert await queue.settle(ownership, [entries[0].position, entries[2].position]) == NOTHING
    await fill(queue, 1)
    assert (await queue.settle(ownership, [entry.position for entry in entries])).count == 1


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("project_count", 7, 7),
        ("total_count", 9, 7),
        ("project_bytes", 7.5, 7),
        ("total_bytes", 9.5, 7),
        ("project_bytes", 7, 7),
    ],
)
async def test_limits_are_exact_also_for_many_at_once(
    queue: Queue, name: str, value: float, fits: int
) -> None:
    stored = event()
    for _ in range(2):
        await queue.append(replace_project(stored, "blog"), UNLIMITED)
    size = (await queue.backlog("prj_blog")).bytes // 2
    bound = int(value * size) if name.endswith("bytes") else int(value)
    full: list[str] = []
    taken = 0

    async def append() -> None:
        nonlocal taken
        try:
            await queue.append(stored, limits(**{name: bound}))
            taken += 1
        except QueueFull as error:
            full.append(error.limit)

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(append)
    assert taken == fits
    assert full == [name.replace("_", "-")] * (30 - fits)
    held = await queue.backlog("prj_shop")
    assert (held.count, held.bytes) == (fits, fits * size)
    # As soon as one is gone there is room for one.
    ownership = await own(queue)
    [first] = await read(queue, ownership, limit=1)
    await queue.settle(ownership, [first.position])
    await append()
    await append()
    assert taken == fits + 1
    entries = await drain(queue, ownership)
    assert len(entries) == fits


def replace_project(stored: StoredEvent, project: str) -> StoredEvent:
    """Give the event to another project with a name as long."""
    changed: dict[str, Any] = {"project_id": f"prj_{project}", "project": project}
    return StoredEvent(**{name: getattr(stored, name) for name in stored.__struct_fields__} | changed)


async def test_nothing_is_taken_behind_one_that_waits_for_too_long(queue: Queue) -> None:
    old = event(received_at=time.time() - 3600)
    await queue.append(old, limits(project_age=60))
    with pytest.raises(QueueFull, match="project-age"):
        await queue.append(event(), limits(project_age=60))
    await queue.append(event("blog"), limits(project_age=60))
    assert (await queue.backlogs())["prj_shop"].oldest_at == old.received_at
    ownership = await own(queue)
    assert len(await drain(queue, ownership)) == 1
    await queue.append(event(), limits(project_age=60))


async def test_the_bus_tells_of_every_backlog(opened: OpenQueue) -> None:
    queue = opened.queue
    before = await queue.version()
    async with opened.bus.subscribe(TOPIC_BACKLOG) as changes:
        await fill(queue, 2)
        come = await next_change(changes)
        assert come == BacklogSet(project_id="prj_shop", project="shop", version=come.version)
        await fill(queue, 1, 'odd "name"')
        other = await next_change(changes)
        assert isinstance(other, BacklogSet)
        assert (other.project_id, other.project) == ('prj_odd "name"', 'odd "name"')
        ownership = await own(queue)
        entries = await read(queue, ownership)
        await queue.settle(ownership, [entries[0].position])
        await queue.defer(ownership, entries[1].position, until=time.time() + LATER, failed=True)
        await queue.settle(ownership, [entries[1].position])
        gone = await next_change(changes)
        assert gone == BacklogGone(project_id="prj_shop", version=gone.version)
        await fill(queue, 1)
        again = await next_change(changes)
        assert isinstance(again, BacklogSet)
        assert before < come.version < other.version < gone.version < again.version
        assert await queue.version() == again.version


LATER = 3600.0


async def test_backlogs_of_many_projects(queue: Queue) -> None:
    for number in range(700):
        await queue.append(event(f"p{number}"), UNLIMITED)
    held = await queue.backlogs()
    assert len(held) == 700
    assert {backlog.count for backlog in held.values()} == {1}
    assert held["prj_p5"] == await queue.backlog("prj_p5")


async def test_a_delivery_id_is_new_once(queue: Queue) -> None:
    assert await queue.remember("a", 60, settled=False) == "new"
    assert await queue.remember("a", 60, settled=False) == "running"
    assert await queue.remember("b", 60, settled=False) == "new"
    await queue.forget("a")
    assert await queue.remember("a", 60, settled=False) == "new"
    assert await queue.remember("a", 60, settled=True) == "running"
    assert await queue.remember("a", 60, settled=False) == "done"
    await queue.forget("a")  # is for claims only
    assert await queue.remember("a", 60, settled=True) == "done"
    assert await queue.remember("c", 60, settled=True) == "new"
    assert await queue.remember("c", 60, settled=False) == "done"


@pytest.mark.parametrize("settled", [True, False])
async def test_a_delivery_id_is_remembered_for_so_long(queue: Queue, settled: bool) -> None:
    await queue.remember("a", 0.05, settled=settled)
    assert await queue.remember("b", 60, settled=settled) == "new"
    with trio.fail_after(DEADLINE):
        while True:
            if await queue.remember("a", 0.05, settled=False) == "new":
                break
    assert await queue.remember("b", 60, settled=False) != "new"


async def test_what_is_stored_can_be_sealed(queue_twin: QueueTwin, tmp_path: Path) -> None:
    old, new = Sealer([b"1" * 32]), Sealer([b"2" * 32, b"1" * 32])
    events = [event(body=b"secret payload %d" % number) for number in range(3)]
    for sealer, stored in zip((None, old, new), events, strict=True):
        async with queue_twin.open(tmp_path, sealer) as opened:
            await opened.queue.append(stored, UNLIMITED)
    async with queue_twin.open(tmp_path, old) as opened:
        # It cannot open the last one: the others come, that one waits for its key.
        ownership = await own(opened.queue)
        entries = await read(opened.queue, ownership)
        assert [entry.event for entry in entries] == events[:2]
        await opened.queue.settle(ownership, [entry.position for entry in entries])
        for _ in range(2):
            with pytest.raises(Unavailable, match="WHOOK_BACKPLANE_STORAGE_KEY"):
                await read(opened.queue, ownership)
    async with queue_twin.open(tmp_path, new) as opened:
        ownership = await own(opened.queue)
        assert [entry.event for entry in await drain(opened.queue, ownership)] == events[2:]


async def test_what_waits_survives_closing(queue_twin: QueueTwin, tmp_path: Path) -> None:
    async with queue_twin.open(tmp_path) as opened:
        events = await fill(opened.queue, 5)
        version = await opened.queue.version()
    async with queue_twin.open(tmp_path) as opened:
        assert await opened.queue.version() == version
        assert (await opened.queue.backlog("prj_shop")).count == 5
        ownership = await own(opened.queue)
        assert [entry.event for entry in await drain(opened.queue, ownership)] == events
