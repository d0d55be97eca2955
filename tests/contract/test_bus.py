"""What every Bus must do."""

from __future__ import annotations

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.twins import BackplaneTwin
from whook.backplane.ports import KEPT, Bus, BusGap, Subscription


@pytest.fixture
def many(backplane_twin: BackplaneTwin) -> int:
    """More messages than the twin buffers for a subscriber that does not read."""
    return 2 * backplane_twin.buffer


async def take(subscription: Subscription, count: int) -> list[tuple[str, bytes]]:
    taken: list[tuple[str, bytes]] = []
    with trio.fail_after(DEADLINE):
        while len(taken) < count:
            taken.append(await subscription.__anext__())
    return taken


async def test_messages_arrive_in_order_with_their_topic(bus: Bus) -> None:
    async with bus.subscribe("a", "b") as subscription:
        for n in range(10):
            await bus.publish("ab"[n % 2], b"%d" % n)
        assert await take(subscription, 10) == [("ab"[n % 2], b"%d" % n) for n in range(10)]


async def test_other_topics_are_not_heard(bus: Bus) -> None:
    async with bus.subscribe("a") as subscription:
        await bus.publish("b", b"other")
        await bus.publish("a", b"mine")
        assert await take(subscription, 1) == [("a", b"mine")]


async def test_every_subscriber_gets_every_message(bus: Bus) -> None:
    async with bus.subscribe("a") as first, bus.subscribe("a") as second:
        await bus.publish("a", b"x")
        assert await take(first, 1) == await take(second, 1) == [("a", b"x")]


async def test_what_was_published_before_is_not_heard(bus: Bus) -> None:
    await bus.publish("a", b"early")
    async with bus.subscribe("a") as subscription:
        await bus.publish("a", b"late")
        assert await take(subscription, 1) == [("a", b"late")]


async def test_publishing_to_nobody_is_fine(bus: Bus) -> None:
    await bus.publish("a", b"x")
    async with bus.subscribe("a"):
        pass
    await bus.publish("a", b"x")


async def test_any_bytes_pass_unchanged(bus: Bus) -> None:
    messages = [b"", bytes(range(256)), b"\r\n", b"x" * 100_000]
    async with bus.subscribe("a") as subscription:
        for message in messages:
            await bus.publish("a", message)
        assert [message for _, message in await take(subscription, len(messages))] == messages


async def test_a_waiting_reader_is_woken(bus: Bus) -> None:
    got: list[tuple[str, bytes]] = []
    async with bus.subscribe("a") as subscription, trio.open_nursery() as nursery:

        async def read() -> None:
            got.extend(await take(subscription, 1))

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await bus.publish("a", b"x")
    assert got == [("a", b"x")]


async def test_a_slow_subscriber_gets_a_gap_and_goes_on(bus: Bus, many: int) -> None:
    async with bus.subscribe("a") as slow, bus.subscribe("b") as other:
        with trio.fail_after(DEADLINE):
            for n in range(many):
                await bus.publish("a", b"%d" % n)
        await bus.publish("b", b"not affected")
        assert await take(other, 1) == [("b", b"not affected")]
        with pytest.raises(BusGap):
            await take(slow, many)
        await bus.publish("a", b"after")
        assert await take(slow, 1) == [("a", b"after")]


async def test_a_gap_can_come_again(bus: Bus, many: int) -> None:
    async with bus.subscribe("a") as slow:
        for _ in range(2):
            for _ in range(many):
                await bus.publish("a", b"x")
            with pytest.raises(BusGap):
                await take(slow, many)


async def test_iterating_goes_on_with_the_same_subscription(bus: Bus) -> None:
    async with bus.subscribe("a") as subscription:
        await bus.publish("a", b"1")
        await bus.publish("a", b"2")
        for expected in (b"1", b"2"):
            with trio.fail_after(DEADLINE):
                async for _, message in subscription:
                    assert message == expected
                    break


async def test_a_cancelled_reader_loses_nothing(bus: Bus) -> None:
    async with bus.subscribe("a") as subscription:
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.__anext__()
        assert scope.cancelled_caught
        await bus.publish("a", b"x")
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.__anext__()
        assert scope.cancelled_caught
        assert await take(subscription, 1) == [("a", b"x")]


async def test_what_is_published_to_be_kept_can_be_read_later(bus: Bus) -> None:
    async with bus.subscribe("a") as subscription:
        await bus.publish("a", b"passing")
        await bus.publish("a", b"second", keep=200)
        await bus.publish("a", b"first", keep=100)
        await bus.publish("b", b"other", keep=100)
        await bus.publish("a", b"first", keep=100)
        heard = [message for _, message in await take(subscription, 4)]
        assert heard == [b"passing", b"second", b"first", b"first"]
    assert await bus.kept("a") == [b"first", b"second"]
    assert await bus.kept("b") == [b"other"]
    assert await bus.kept("c") == []


async def test_what_is_kept_is_dropped_in_time(bus: Bus) -> None:
    await bus.publish("a", b"longer", keep=100)
    await bus.publish("a", b"short", keep=0.2)
    assert await bus.kept("a") == [b"short", b"longer"]
    await wait_kept(bus, "a", [b"longer"])
    await bus.publish("b", b"alone", keep=0.001)
    await wait_kept(bus, "b", [])


async def wait_kept(bus: Bus, topic: str, expected: list[bytes]) -> None:
    with trio.fail_after(DEADLINE):
        while True:
            await trio.lowlevel.checkpoint()
            if await bus.kept(topic) == expected:
                return


async def test_what_is_kept_is_bounded(bus: Bus) -> None:
    for n in range(KEPT + 10):
        await bus.publish("a", b"%d" % n, keep=100 + n)
    kept = await bus.kept("a")
    assert (len(kept), kept[0], kept[-1]) == (KEPT, b"10", b"%d" % (KEPT + 9))


async def test_a_subscription_needs_a_topic(bus: Bus) -> None:
    with pytest.raises(ValueError, match="topic"):
        async with bus.subscribe():
            pass
