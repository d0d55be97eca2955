"""Drain: begins once, and says when it ends."""

import math

import trio
from trio.testing import MockClock

from whook.chassis.drain import Drain


async def test_before_it_begins() -> None:
    drain = Drain()
    assert not drain.begun
    assert drain.deadline == math.inf
    assert drain.reason == ""


async def test_wakes_those_who_wait(autojump_clock: MockClock) -> None:
    drain = Drain(grace=7)
    woken: list[float] = []

    async def wait() -> None:
        await drain.wait()
        woken.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.sleep(3)
        drain.begin("SIGTERM")
        began = trio.current_time()
    assert woken == [began, began]
    assert drain.deadline == began + 7


async def test_first_reason_and_deadline_stand(autojump_clock: MockClock) -> None:
    drain = Drain(grace=7)
    drain.begin("SIGTERM")
    deadline = drain.deadline
    await trio.sleep(2)
    drain.begin("SIGINT")
    assert (drain.reason, drain.deadline) == ("SIGTERM", deadline)
    await drain.wait()


async def test_patience_ends_with_the_time_the_drain_or_the_block(autojump_clock: trio.abc.Clock) -> None:
    drain = Drain()
    begun = trio.current_time()
    async with drain.patience(3):
        await trio.sleep_forever()
    assert trio.current_time() - begun == 3
    async with drain.patience(3):
        pass
    assert trio.current_time() - begun == 3
    drain.begin("test")
    async with drain.patience(3):
        await trio.sleep_forever()
    assert trio.current_time() - begun == 3
