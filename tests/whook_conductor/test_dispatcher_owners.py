"""Who works a backlog off: one owner at a time, whatever happens to the queue, the lease or the conductor."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.support.backlog import buffer, emptied, event
from tests.support.conductor import KEY, Rig, answer, open_conductor
from tests.support.deadlines import DEADLINE
from tests.support.queues import UNLIMITED
from whook.backplane.memory import MemoryJournal
from whook.backplane.ports import Queue, Unavailable
from whook.chassis.drain import Drain
from whook.chassis.readiness import Readiness
from whook.link import Exchange
from whook_conductor.service import ConductorPorts, run_conductor
from whook_conductor.settings import ConductorSettings


async def test_an_outage_of_the_queue_pauses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    down = True

    async with open_conductor(tunnels=()) as rig:
        await buffer(rig, *(f"/{number}" for number in range(5)))
        settle, read = rig.queue.settle, rig.queue.read

        async def settle_or_not(*args: object) -> object:
            nonlocal calls
            calls += 1
            if down:
                raise Unavailable("the queue is gone")
            return await settle(*args)  # type: ignore[arg-type]

        async def read_or_not(*args: object, **named: object) -> object:
            if down and calls:
                raise Unavailable("the queue is gone")
            return await read(*args, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(rig.queue, "settle", settle_or_not)
        monkeypatch.setattr(rig.queue, "read", read_or_not)
        await rig.claim("shop")
        with trio.fail_after(DEADLINE):
            while calls < 3:
                await trio.testing.wait_all_tasks_blocked(0.005)
        down = False
        await emptied(rig)


async def test_a_lease_that_is_lost_ends_what_runs_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    began, cancelled, go_on = trio.Event(), trio.Event(), trio.Event()

    async def handler(exchange: Exchange) -> None:
        began.set()
        try:
            await go_on.wait()
        except trio.Cancelled:
            cancelled.set()
            raise
        await answer(exchange)

    async with open_conductor(handler, tunnels=()) as rig:
        await buffer(rig, "/1")
        await rig.claim("shop")
        await began.wait()

        async def silent(*_: object) -> bool:
            raise Unavailable("the queue is gone")

        monkeypatch.setattr(rig.queue, "attend", silent)
        with trio.fail_after(DEADLINE):
            await cancelled.wait()  # before the lease can have ended
        monkeypatch.undo()
        go_on.set()
        await emptied(rig)


async def test_a_drain_finishes_what_is_under_way_and_leaves_the_rest() -> None:
    began, go_on = trio.Event(), trio.Event()
    got: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        got.append(exchange.request.target)
        began.set()
        await go_on.wait()
        await answer(exchange)

    async with open_conductor(handler, tunnels=()) as rig:
        await buffer(rig, "/1", "/2")
        await rig.claim("shop")
        await began.wait()
        rig.drain.begin("the test wants it")
        await trio.testing.wait_all_tasks_blocked(0.05)
        go_on.set()
        with trio.fail_after(DEADLINE):
            await rig.ended.wait()
        assert got == [b"/1"]
        assert (await rig.queue.backlog("prj_shop")).count == 1
        await rig.queue.attend("another", 60.0)
        assert await rig.queue.acquire("prj_shop", "another") is not None, "it was not released"


async def test_two_conductors_never_deliver_the_same_event_at_the_same_time() -> None:
    running: set[str] = set()
    times: Counter[str] = Counter()
    overlaps: list[str] = []
    more: list[Any] = []

    async def handler(exchange: Exchange) -> None:
        event = exchange.request.event_id
        if event in running:
            overlaps.append(event)
        running.add(event)
        times[event] += 1
        if more and times.total() >= more[1]:
            more[0].set()
        await trio.lowlevel.checkpoint()
        running.discard(event)
        await answer(exchange)

    async with open_conductor(handler, tunnels=()) as rig, trio.open_nursery() as nursery:
        drains = [Drain(5.0) for _ in range(3)]
        for drain in drains:
            await nursery.start(partial(another, rig, drain))
        ids: list[str] = []
        for name in ("shop", "two", "three"):
            ids += await buffer(rig, *(f"/{number}" for number in range(60)), name=name)
            await rig.claim(name)
        for drain in drains:
            more[:] = [trio.Event(), times.total() + 10]
            with trio.move_on_after(1):  # what is under way changes hands; fewer may be left
                await more[0].wait()
            drain.begin("the next one is to take over")
        await emptied(rig)
        assert overlaps == []
        assert set(times) == set(ids)
        nursery.cancel_scope.cancel()


async def another(
    rig: Rig,
    drain: Drain,
    *,
    queue: Any = None,
    task_status: trio.TaskStatus[ConductorPorts] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run one more conductor on the same backplane."""
    await run_conductor(
        ConductorSettings(listen="127.0.0.1:0", api="127.0.0.1:0", cluster_key=KEY),
        directory=rig.backplane.directory,
        bus=rig.backplane.bus,
        projects=rig.projects,
        auth=rig.auth,
        queue=queue or rig.queue,
        blobs=rig.stored.blobs,
        history=rig.stored.history,
        journal=MemoryJournal(),
        drain=drain,
        readiness=Readiness(drain),
        task_status=task_status,
    )


class Silent:
    """A queue whose connection is lost for good, when the test says so, for one conductor only."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.lost = False

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._queue, name)

        async def call_or_hang(*args: Any, **named: Any) -> Any:
            if self.lost:
                await trio.sleep_forever()
            return await call(*args, **named)

        return call_or_hang


async def test_an_owner_that_falls_silent_is_replaced_once_its_deliveries_have_ended() -> None:
    running = 0
    most = 0
    calls: list[float] = []
    held = trio.Event()

    async def handler(exchange: Exchange) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        calls.append(trio.current_time())
        try:
            if len(calls) == 1:
                await held.wait()  # never: whoever owns it has to end it
            await answer(exchange)
        finally:
            running -= 1

    async with open_conductor(handler, tunnels=()) as rig, trio.open_nursery() as nursery:
        silent = Silent(rig.queue)
        await nursery.start(partial(another, rig, Drain(5.0), queue=silent))
        rig.drain.begin("only the other one is to own anything at first")
        await rig.queue.append(event("shop"), UNLIMITED)
        await rig.projects.create("shop")
        await rig.claim("shop")
        with trio.fail_after(DEADLINE):
            while not calls:
                await trio.testing.wait_all_tasks_blocked(0.005)
            silent.lost = True
            fell_silent = trio.current_time()
            await nursery.start(partial(another, rig, Drain(5.0)))
            await emptied(rig)
        assert most == 1, "two conductors delivered the same event at the same time"
        assert len(calls) == 2
        assert calls[1] - fell_silent < 10.0
        nursery.cancel_scope.cancel()
