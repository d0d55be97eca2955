"""A mailbox is bounded, and never pretends."""

from __future__ import annotations

import math

import pytest
import trio

from whook.backplane.ports import BusGap
from whook.backplane.redis.mailbox import TURN, Mailbox


async def test_exactly_its_size_fits() -> None:
    mailbox = Mailbox(3)
    for n in range(3):
        mailbox.put("a", b"%d" % n)
    assert [(await mailbox.__anext__())[1] for _ in range(3)] == [b"0", b"1", b"2"]


async def test_one_more_is_a_gap_that_covers_what_follows_until_it_is_read() -> None:
    mailbox = Mailbox(3)
    for n in range(5):
        mailbox.put("a", b"%d" % n)
    with pytest.raises(BusGap):
        await mailbox.__anext__()
    mailbox.put("a", b"later")
    assert await mailbox.__anext__() == ("a", b"later")


async def test_a_waiting_reader_learns_of_a_gap_at_once() -> None:
    mailbox = Mailbox(3)

    async def read() -> None:
        with pytest.raises(BusGap):
            await mailbox.__anext__()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        mailbox.gap()


async def test_a_cancelled_reader_loses_nothing() -> None:
    mailbox = Mailbox(TURN * 4)
    for n in range(TURN * 3):
        mailbox.put("a", b"%d" % n)
    taken: list[bytes] = []
    while len(taken) < TURN * 3:
        with trio.CancelScope() as scope:
            taken.append((await mailbox.__anext__())[1])
            scope.cancel()
            taken.append((await mailbox.__anext__())[1])
        assert scope.cancelled_caught
    assert taken == [b"%d" % n for n in range(TURN * 3)]


async def test_a_reader_with_much_to_read_lets_others_run() -> None:
    mailbox = Mailbox(TURN * 4)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        for _ in range(TURN * 4):
            mailbox.put("a", b"")
        for _ in range(TURN * 4):
            await mailbox.__anext__()
        nursery.cancel_scope.cancel()
    assert turns >= 2


@pytest.mark.parametrize("size", [0, math.inf])
def test_it_must_be_bounded(size: float) -> None:
    with pytest.raises(ValueError, match="bounded"):
        Mailbox(size)  # type: ignore[arg-type]
