"""The wake-up call that writers and exchanges wait for."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from whook.link.wakeup import Wakeup


async def test_a_call_wakes_the_one_who_waits() -> None:
    wakeup, woken = Wakeup(), trio.Event()

    async def wait() -> None:
        await wakeup.wait()
        woken.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not woken.is_set()
        wakeup.wake()
    assert woken.is_set()


async def test_a_call_that_comes_first_is_remembered_once() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    wakeup.wake()
    await wakeup.wait()
    with trio.move_on_after(0) as scope:
        await wakeup.wait()
    assert scope.cancelled_caught


async def test_waiting_is_a_checkpoint_and_a_cancelled_one_keeps_the_call() -> None:
    wakeup = Wakeup()
    wakeup.wake()
    with trio.CancelScope() as scope:
        scope.cancel()
        await wakeup.wait()
    assert scope.cancelled_caught
    await wakeup.wait()  # the call is still there


async def test_a_cancelled_wait_leaves_no_trace() -> None:
    wakeup = Wakeup()
    with trio.move_on_after(0):
        await wakeup.wait()
    wakeup.wake()
    await wakeup.wait()


async def test_only_one_may_wait() -> None:
    wakeup = Wakeup()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wakeup.wait)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await wakeup.wait()
        wakeup.wake()
