"""Batches: what is asked at the same time goes out together, and nobody's end is another's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio
import trio.testing

from tests.support.deadlines import DEADLINE
from whook.chassis.batches import Batcher


class Work:
    """A store that answers when it is let, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gate = trio.Event()
        self.failure: Exception | None = None

    async def __call__(self, keys: Sequence[int]) -> list[int | Exception]:
        self.asked.append(list(keys))
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return [LookupError(str(key)) if key < 0 else key * 10 for key in keys]

    def open(self) -> None:
        self.gate.set()


class Asking:
    """Tasks that ask, each begun when the one before waits, and what they were told."""

    def __init__(self, nursery: trio.Nursery, batcher: Batcher[int, int]) -> None:
        self._nursery = nursery
        self._batcher = batcher
        self.found: dict[int, object] = {}
        self.scopes: dict[int, trio.CancelScope] = {}

    async def ask(self, *keys: int) -> None:
        for key in keys:
            self._nursery.start_soon(self._ask, key)
            await trio.testing.wait_all_tasks_blocked()

    async def cancel(self, key: int) -> None:
        self.scopes[key].cancel()
        await trio.testing.wait_all_tasks_blocked()

    async def _ask(self, key: int) -> None:
        with trio.fail_after(DEADLINE), trio.CancelScope() as self.scopes[key]:
            try:
                self.found[key] = await self._batcher.ask(key)
            except LookupError as error:
                self.found[key] = error


@asynccontextmanager
async def asking(batcher: Batcher[int, int]) -> AsyncGenerator[Asking]:
    async with trio.open_nursery() as nursery:
        yield Asking(nursery, batcher)


async def test_one_alone_goes_at_once() -> None:
    work = Work()
    work.open()
    batcher = Batcher(work, largest=10)
    assert await batcher.ask(1) == 10
    assert await batcher.ask(2) == 20
    assert work.asked == [[1], [2]]


async def test_those_that_come_meanwhile_share_the_next() -> None:
    work = Work()
    batcher = Batcher(work, largest=3)
    async with asking(batcher) as tasks:
        await tasks.ask(1, 2, 3, 4, 5, 6)
        assert (work.asked, batcher.waiting) == ([[1]], 5)
        work.open()
    assert work.asked == [[1], [2, 3, 4], [5, 6]]
    assert tasks.found == {n: n * 10 for n in range(1, 7)}


async def test_so_many_batches_at_once() -> None:
    work = Work()
    async with asking(Batcher(work, largest=3, at_once=2)) as tasks:
        await tasks.ask(1, 2, 3, 4, 5)
        assert work.asked == [[1], [2]]
        work.open()
    assert work.asked == [[1], [2], [3, 4, 5]]
    assert len(tasks.found) == 5


async def test_each_gets_its_own_failure() -> None:
    work = Work()
    async with asking(Batcher(work, largest=10)) as tasks:
        await tasks.ask(1, -2, 3)
        work.open()
    assert (tasks.found[1], tasks.found[3]) == (10, 30)
    assert isinstance(tasks.found[-2], LookupError)


async def test_a_failed_batch_fails_for_all_in_it_and_for_nobody_else() -> None:
    work = Work()
    batcher = Batcher(work, largest=10)
    async with asking(batcher) as tasks:
        await tasks.ask(1, 2, 3)
        work.failure = LookupError("away")
        work.open()
    assert len(tasks.found) == 3
    assert all(isinstance(value, LookupError) for value in tasks.found.values())
    work.failure = None
    assert await batcher.ask(4) == 40


async def test_when_the_task_that_runs_a_batch_is_cancelled_another_asks_again() -> None:
    work = Work()
    async with asking(Batcher(work, largest=10)) as tasks:
        await tasks.ask(1, 2, 3)
        await tasks.cancel(1)
        assert work.asked == [[1], [2, 3]]
        await tasks.cancel(2)  # it runs the batch, and takes nobody along
        assert work.asked == [[1], [2, 3], [3]]
        work.open()
    assert tasks.found == {3: 30}


async def test_whoever_waits_and_is_cancelled_is_not_asked_for() -> None:
    work = Work()
    batcher = Batcher(work, largest=10)
    async with asking(batcher) as tasks:
        await tasks.ask(1, 2, 3)
        await tasks.cancel(2)
        assert batcher.waiting == 1
        work.open()
    assert work.asked == [[1], [3]]
    assert tasks.found == {1: 10, 3: 30}


async def test_in_a_nursery_nobody_who_asks_cuts_a_batch_off() -> None:
    work = Work()
    async with trio.open_nursery() as nursery:
        batcher = Batcher(work, largest=10, nursery=nursery)
        async with asking(batcher) as tasks:
            await tasks.ask(1, 2, 3)
            await tasks.cancel(1)
            assert work.asked == [[1]]
            work.open()
        assert work.asked == [[1], [2, 3]]
        assert tasks.found == {2: 20, 3: 30}
        assert await batcher.ask(4) == 40


async def test_one_that_went_away_from_a_batch_that_is_cut_off_holds_up_nobody() -> None:
    work = Work()
    batcher = Batcher(work, largest=2)
    async with asking(batcher) as tasks:
        await tasks.ask(1, 2, 3, 4)
        await tasks.cancel(1)  # 2 runs the next batch, for itself and 3
        await tasks.cancel(3)
        await tasks.cancel(2)
        assert work.asked == [[1], [2, 3], [4]]
        work.open()
    assert tasks.found == {4: 40}
    assert batcher.waiting == 0
