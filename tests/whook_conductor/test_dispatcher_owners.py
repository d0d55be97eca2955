"""Who works a backlog off: one owner at a time, whatever happens to the queue, the lease or the conductor."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import trio
import trio.testing

from tests.support.backlog import buffer, emptied
from tests.support.conductor import KEY, Rig, answer, open_conductor
from tests.support.deadlines import DEADLINE
from whook.backplane.memory import MemoryJournal
from whook.backplane.ports import Unavailable
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

    async def handler(exchange: Exchange) -> None:
        event = exchange.request.event_id
        if event in running:
            overlaps.append(event)
        running.add(event)
        times[event] += 1
        await trio.sleep(0.001)
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
            await trio.sleep(0.05)  # what is under way changes hands
            drain.begin("the next one is to take over")
        await emptied(rig)
        assert overlaps == []
        assert set(times) == set(ids)
        nursery.cancel_scope.cancel()


async def another(
    rig: Rig, drain: Drain, *, task_status: trio.TaskStatus[ConductorPorts] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run one more conductor on the same backplane."""
    await run_conductor(
        ConductorSettings(listen="127.0.0.1:0", api="127.0.0.1:0", cluster_key=KEY),
        directory=rig.backplane.directory,
        bus=rig.backplane.bus,
        projects=rig.projects,
        auth=rig.auth,
        queue=rig.queue,
        blobs=rig.stored.blobs,
        history=rig.stored.history,
        journal=MemoryJournal(),
        drain=drain,
        readiness=Readiness(drain),
        task_status=task_status,
    )
