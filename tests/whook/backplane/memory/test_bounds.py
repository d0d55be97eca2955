"""The bus in memory is bounded, and leaves nothing behind."""

from __future__ import annotations

import math

import pytest
import trio

from whook.backplane.memory import MemoryBus
from whook.backplane.ports import BusGap


async def test_exactly_the_buffer_fits() -> None:
    bus = MemoryBus(buffer=3)
    async with bus.subscribe("a") as subscription:
        for n in range(3):
            await bus.publish("a", b"%d" % n)
        assert [(await subscription.__anext__())[1] for _ in range(3)] == [b"0", b"1", b"2"]


async def test_one_more_is_a_gap_and_the_backlog_goes() -> None:
    bus = MemoryBus(buffer=3)
    async with bus.subscribe("a") as subscription:
        for n in range(4):
            await bus.publish("a", b"%d" % n)
        with pytest.raises(BusGap):
            await subscription.__anext__()
        await bus.publish("a", b"later")
        assert await subscription.__anext__() == ("a", b"later")


async def test_a_cancelled_reader_learns_of_the_gap_later() -> None:
    bus = MemoryBus(buffer=1)
    async with bus.subscribe("a") as subscription:
        await bus.publish("a", b"1")
        await bus.publish("a", b"2")
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.__anext__()
        assert scope.cancelled_caught
        with pytest.raises(BusGap):
            await subscription.__anext__()


async def test_a_topic_given_twice_is_heard_once() -> None:
    bus = MemoryBus()
    async with bus.subscribe("a", "a") as subscription:
        await bus.publish("a", b"1")
        await bus.publish("a", b"2")
        assert [(await subscription.__anext__())[1] for _ in range(2)] == [b"1", b"2"]


async def test_subscriptions_leave_nothing_behind() -> None:
    bus = MemoryBus()
    async with bus.subscribe("a", "b"), bus.subscribe("b"):
        assert len(bus._subscriptions) == 2
    assert not bus._subscriptions


@pytest.mark.parametrize("buffer", [0, math.inf])
async def test_the_buffer_must_be_bounded(buffer: float) -> None:
    bus = MemoryBus(buffer=buffer)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bounded"):
        async with bus.subscribe("a"):
            pass
