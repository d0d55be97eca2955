"""What waits in the queue, as the metrics tell it."""

from __future__ import annotations

import time

import pytest
import trio

from tests.support.conductor_stores import open_stored
from tests.support.queues import event, limits, own, read
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import Backlog, Queue, Unavailable
from whook.chassis.metrics import REGISTRY, Publisher
from whook_conductor.queue_size import QueueSize


def sample(name: str) -> float | None:
    return REGISTRY.get_sample_value(name)


async def test_all_projects_are_summed_up_and_none_is_named() -> None:
    async with open_stored(MemoryBus()) as stored:
        size = QueueSize(stored.queue)
        with Publisher() as to:
            size.publish(to)
            await size.read()
            assert [sample(f"whook_queue_{what}") for what in ("events", "bytes", "oldest_seconds")] == [
                0,
                0,
                0,
            ]
            old = event("shop", received_at=time.time() - 100)
            for one in (old, event("shop"), event("forum", b"x" * 1000)):
                await stored.queue.append(one, limits())
            await size.read()
            assert sample("whook_queue_events") == 3
            assert 1000 < (sample("whook_queue_bytes") or 0) < 5000
            assert 100 <= (sample("whook_queue_oldest_seconds") or 0) < 160
            ownership = await own(stored.queue)
            first, _ = await read(stored.queue, ownership)
            await stored.queue.settle(ownership, [first.position])
            await size.read()
            assert sample("whook_queue_events") == 2
            assert (sample("whook_queue_oldest_seconds") or 0) < 60


async def test_a_queue_that_is_away_leaves_what_was_read_and_says_so(
    autojump_clock: trio.abc.Clock,
) -> None:
    class Away:
        def __init__(self) -> None:
            self.away = False
            self.asked = 0

        async def backlogs(self) -> dict[str, Backlog]:
            self.asked += 1
            if self.away:
                raise Unavailable("the test says so")
            return {"prj_shop": Backlog(count=2, bytes=20, oldest_at=1.0)}

    queue = Away()
    size = QueueSize(queue)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(size.run)
        await trio.sleep(1)
        assert (size.readable, size.events) == (True, 2)
        queue.away = True
        await trio.sleep(60)
        assert (size.readable, size.events) == (False, 2)
        queue.away = False
        await trio.sleep(60)
        assert size.readable
        assert 8 <= queue.asked <= 18
        nursery.cancel_scope.cancel()


async def test_a_defect_is_not_taken_for_an_outage() -> None:
    class Broken:
        async def backlogs(self) -> dict[str, Backlog]:
            raise ValueError("boom")

    queue: Queue = Broken()  # type: ignore[assignment]
    with pytest.raises(ValueError, match="boom"):
        await QueueSize(queue).run()
