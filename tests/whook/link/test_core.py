"""A link: one message for all that has gathered, whole frames only, and every way in which it ends."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.deadlines import DEADLINE
from tests.support.links import KINDS, Counted, Ends, in_lockstep, in_memory, linked, transports, until
from tests.support.wire_talk import frame, frames, show_frames
from whook.link import HIGH_WATER, Link, LinkClosed, LinkRefused
from whook.wire import (
    DATA,
    HEADER_SIZE,
    PING_FRAME,
    Frame,
    GoAwayCode,
    Hello,
    ProtocolError,
    decode_goaway,
    encode_frame,
    encode_goaway,
    encode_hello,
)

HELLO = Hello(version=1, agent="test", peer="cli")


def header_and_payload(size: int) -> tuple[bytes, memoryview]:
    """A frame in two parts."""
    whole = encode_frame(DATA, 0, 1, bytes(size))
    return whole[:HEADER_SIZE], memoryview(whole)[HEADER_SIZE:]


def ignore(_: list[Frame]) -> None:
    """Receive nothing."""


async def run_far(ends: Ends) -> str:
    return await ends.far.run(ends.frames.extend)


# -- sending ------------------------------------------------------------------------------------------------


async def test_what_gathers_goes_out_in_one_message() -> None:
    near, far = in_lockstep()
    counted = Counted(near)
    ends = linked((counted, far))
    async with trio.open_nursery() as nursery:
        ends.near.send(frame("DATA 1 'a'"))
        ends.near.send(frame("DATA 1 'b'"))
        nursery.start_soon(ends.near.run, ignore)
        await wait_all_tasks_blocked()  # the first message is under way and nobody takes it
        for name in "cdef":
            ends.near.send(frame(f"DATA 1 '{name}'"))
        nursery.start_soon(run_far, ends)
        await until(lambda: len(ends.frames) == 6)
        nursery.cancel_scope.cancel()
    assert [show_frames(message) for message in counted.sent] == [
        ["DATA 1 'a'", "DATA 1 'b'"],
        ["DATA 1 'c'", "DATA 1 'd'", "DATA 1 'e'", "DATA 1 'f'"],
    ]


async def test_a_message_has_a_bound_and_frames_stay_whole() -> None:
    near, far = in_memory()
    counted = Counted(near)
    ends = linked((counted, far))
    for _ in range(20):
        ends.near.send(frame("DATA 1 65536"))
        ends.near.send_frame(*header_and_payload(65_536))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.near.run, ignore)
        nursery.start_soon(run_far, ends)
        await until(lambda: len(ends.frames) == 40)
        nursery.cancel_scope.cancel()
    assert all(len(message) <= 262_144 + 65_546 for message in counted.sent)
    assert all(show_frames(message) for message in counted.sent)  # each ends where a frame ends
    assert len(counted.sent) == 10


@pytest.mark.parametrize("kind", KINDS)
async def test_a_link_carries_frames_both_ways(kind: str) -> None:
    async with transports(kind) as pair:
        ends, back = linked(pair), list[Frame]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.near.run, back.extend)
            nursery.start_soon(run_far, ends)
            ends.near.send(frames("OPEN 1", "DATA 1 'there'"))
            ends.far.send(frames("HEAD 1 200", "DATA 1 'back' end"))
            await until(lambda: len(ends.frames) == len(back) == 2)
            nursery.cancel_scope.cancel()
        assert ends.heard == ["OPEN 1", "DATA 1 'there'"]


async def test_nothing_is_sent_on_a_closed_link() -> None:
    ends = linked(in_memory())
    ends.near.close("over")
    ends.near.send(b"x")
    assert ends.near.pending == 0
    assert await ends.near.run(ignore) == "over"


# -- wait_writable ------------------------------------------------------------------------------------------


async def test_wait_writable_waits_above_high_water() -> None:
    ends = linked(in_lockstep())
    piece = encode_frame(DATA, 0, 1, bytes(200_000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.near.run, ignore)
        while ends.near.pending <= HIGH_WATER:
            await ends.near.wait_writable()  # at once
            ends.near.send(piece)
        written = trio.Event()

        async def wait() -> None:
            await ends.near.wait_writable()
            assert ends.near.pending <= HIGH_WATER
            written.set()

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not written.is_set()
        nursery.start_soon(run_far, ends)
        with trio.fail_after(DEADLINE):
            await written.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["close", "vanish"])
async def test_wait_writable_ends_with_the_link(how: str) -> None:
    ends = linked(pair := in_lockstep())
    ends.near.send(bytes(2 * HIGH_WATER))

    async def wait() -> None:
        with pytest.raises(LinkClosed):
            await ends.near.wait_writable()

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.near.run, ignore)
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            if how == "close":
                ends.near.close("over")
            else:
                await pair[1].aclose()
        with pytest.raises(LinkClosed):
            await ends.near.wait_writable()


# -- the ways a link ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_finish_sends_what_is_pending_and_its_last_words(kind: str) -> None:
    async with transports(kind) as pair:
        ends = linked(pair)
        for _ in range(30):
            ends.near.send(frame("DATA 1 65536"))
        ends.near.finish("all said", encode_goaway(GoAwayCode.DRAIN, "bye"))
        ends.near.send(frame("DATA 1 'too late'"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_far, ends)
            assert await ends.near.run(ignore) == "all said"
        assert ends.far.close_reason == "the peer closed the connection"
        assert ends.heard == ["DATA 1 65536"] * 30 + ["GOAWAY DRAIN"]


async def test_a_finishing_link_still_receives() -> None:
    ends, back = linked(in_lockstep()), list[Frame]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.near.run, back.extend)
        ends.near.send(bytes(10))
        ends.near.finish("enough")
        await ends.far.send_now(frame("DATA 1 'heard'"))
        await until(lambda: back)
        assert not ends.near.closed
        nursery.start_soon(run_far, ends)


async def test_a_peer_that_reads_nothing_cannot_keep_a_finishing_link(autojump_clock: MockClock) -> None:
    ends = linked(in_lockstep())
    ends.near.send(bytes(10))
    ends.near.finish("enough")
    assert await ends.near.run(ignore) == "enough"


async def test_close_is_at_once_and_the_first_reason_stays() -> None:
    ends = linked(in_lockstep())
    ends.near.send(bytes(10))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.near.run, ignore)
        await wait_all_tasks_blocked()
        ends.near.close("first")
        ends.near.close("second")
    assert ends.near.close_reason == "first"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_peer_closes(kind: str) -> None:
    async with transports(kind) as pair:
        ends = linked(pair)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.near.run, ignore)
            nursery.start_soon(pair[1].aclose)
            await until(lambda: ends.near.closed)
        assert ends.near.close_reason == "the peer closed the connection"


async def test_expiry(autojump_clock: MockClock) -> None:
    ends = linked(in_memory())
    ends.near.expire_after(3600, "the token expired")
    assert await ends.near.run(ignore) == "the token expired"
    assert trio.current_time() >= 3600


async def test_cancelled_from_outside() -> None:
    ends = linked(in_memory())
    with trio.CancelScope() as scope:
        scope.cancel()
        await ends.near.run(ignore)
    assert ends.near.close_reason == "cancelled"
    with pytest.raises(LinkClosed):
        await ends.far.receive_hello()  # the stream was closed nevertheless


async def test_a_defect_in_the_receiver_leaves_as_itself() -> None:
    ends = linked(in_memory())

    def broken(_: list[Frame]) -> None:
        raise LookupError("a defect")

    await ends.far.send_now(frame("DATA 1 'x'"))
    with pytest.RaisesGroup(LookupError):
        await ends.near.run(broken)
    assert ends.near.closed


# -- faults of the peer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_protocol_error_is_told_and_ends_the_link(kind: str) -> None:
    async with transports(kind) as pair:
        ends = linked(pair)
        ends.near.send(frame("DATA 1 'first'"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.near.run, ignore)
            nursery.start_soon(run_far, ends)
            ends.far.send(b"\0\0\0\0\x63\0\0\0\0\0")
            await until(lambda: ends.far.closed and ends.near.closed)
        assert ends.near.close_reason == "protocol error: unknown frame type 99"
        assert ends.heard == ["DATA 1 'first'", "GOAWAY PROTOCOL"]
        assert decode_goaway(ends.frames[-1][3]).message == "unknown frame type 99"


async def test_a_receiver_may_call_something_a_protocol_error() -> None:
    ends = linked(in_memory())

    def strict(frames: list[Frame]) -> None:
        raise ProtocolError("not so")

    await ends.far.send_now(frame("DATA 1 'x'"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.near.run, strict)
        await run_far(ends)
    assert ends.near.close_reason == "protocol error: not so"
    assert ends.heard == ["GOAWAY PROTOCOL"]


async def test_a_faulty_peer_that_reads_nothing_does_not_hold_up(autojump_clock: MockClock) -> None:
    ends = linked(pair := in_lockstep())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.near.run, ignore)
        ends.near.send(bytes(10))
        await pair[1].send(b"\xff" * 10)
    assert ends.near.close_reason.startswith("protocol error")


# -- PING ---------------------------------------------------------------------------------------------------


async def test_a_ping_is_answered_and_neighbours_are_received() -> None:
    ends, back = linked(in_memory()), list[Frame]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.near.run, back.extend)
        nursery.start_soon(run_far, ends)
        ends.far.send(PING_FRAME + frame("DATA 1 'x'") + PING_FRAME + frame("END 1"))
        await until(lambda: len(back) == 2)
        ends.far.send(PING_FRAME)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [kind for kind, *_ in back] == [4, 5]
    assert ends.frames == []  # neither PING nor its answer is the receiver's business


# -- the introduction ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_hello_and_what_follows_it(size: int) -> None:
    ends, back = linked(in_memory()), list[Frame]()
    data = encode_hello(HELLO) + frames("OPEN 1 end", "RESET 1 CANCELLED")
    async with trio.open_nursery() as nursery:
        for at in range(0, len(data), size):
            await ends.far.send_now(data[at : at + size])
        assert await ends.near.receive_hello() == HELLO
        nursery.start_soon(ends.near.run, back.extend)
        await until(lambda: len(back) == 2)  # not lost
        nursery.cancel_scope.cancel()


async def test_introductions_that_are_none() -> None:
    ends = linked(pair := in_memory())
    await ends.far.send_now(encode_goaway(GoAwayCode.HELD, "held by ada", 3.0))
    with pytest.raises(LinkRefused, match="held by ada") as refused:
        await ends.near.receive_hello()
    assert (refused.value.goaway.code, refused.value.goaway.retry_after) == (GoAwayCode.HELD, 3.0)
    for wrong in (
        frame("DATA 1 'x'"),
        PING_FRAME,
        encode_hello(HELLO)[:9] + b"\1" + encode_hello(HELLO)[10:],
    ):
        await ends.far.send_now(wrong)
        with pytest.raises(ProtocolError, match="expected HELLO"):
            await ends.near.receive_hello()
    await ends.far.send_now(b"\xff" * 10)
    with pytest.raises(ProtocolError):
        await Link(pair[0], name="anew").receive_hello()
    await pair[1].aclose()
    with pytest.raises(LinkClosed, match="before introducing itself"):
        await Link(pair[0], name="anew").receive_hello()
