"""The CLI's end of a tunnel: a task for each exchange, refusals, drain, and what cancels a handler."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.deadlines import DEADLINE
from tests.support.links import in_memory, joined, read, respond, until
from tests.support.wire_talk import frames, show_frames
from whook.link import Answerer, Exchange, ExchangeReset, Link
from whook.wire import GoAwayCode, ResetCode, encode_goaway


class Held:
    """A handler that answers when it is let."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.cancelled = 0

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self.go.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        await respond(exchange, 200, b"done")


async def code_of(exchange: Exchange) -> tuple[int, str]:
    with trio.fail_after(DEADLINE), pytest.raises(ExchangeReset) as reset:
        await exchange.receive()
    return reset.value.code, reset.value.message


async def test_drain_lets_what_runs_finish_and_takes_nothing_new() -> None:
    held = Held()
    async with joined(held) as ends:
        running = ends.open()
        await until(lambda: ends.answerer.running)
        ends.answerer.drain("going home")
        ends.answerer.drain("again")  # once is enough
        late = ends.open()
        assert await code_of(late) == (ResetCode.DRAINING, "the client is shutting down")
        assert ends.opener.goaway is not None
        assert (ends.opener.goaway.code, ends.opener.goaway.message) == (GoAwayCode.DRAIN, "going home")
        idle = trio.Event()

        async def wait() -> None:
            await ends.answerer.wait_idle()
            idle.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert not idle.is_set()
            held.go.set()
            assert await read(running) == ([200], b"done", [])
            with trio.fail_after(DEADLINE):
                await idle.wait()
        await ends.answerer.wait_idle()
        ends.answerer.link.finish("gone")
        await until(lambda: ends.opener.link.closed)
    assert held.cancelled == 0


async def test_more_than_it_takes_at_once_are_refused() -> None:
    held = Held()
    async with joined(held, most_answered=2) as ends:
        running = [ends.open(), ends.open()]
        assert await code_of(ends.open(b"body", end=False)) == (
            ResetCode.OVERLOADED,
            "2 exchanges are running",
        )
        held.go.set()
        for exchange in running:
            assert (await read(exchange))[0] == [200]
        await ends.settled()
        assert (await read(ends.open()))[0] == [200]


async def test_copies_are_refused_as_well() -> None:
    near, far = in_memory()
    answerer = Answerer(Link(far, name="far"), Held(), max_exchanges=0)
    await near.send(frames("OPEN 1 watch end", "OPEN 2 watch", "DATA 2 'x'"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answerer.run)
        await wait_all_tasks_blocked()
        assert show_frames(await near.receive()) == ["RESET 1 OVERLOADED", "RESET 2 OVERLOADED"]
        answerer.link.close("over")
    assert not answerer.endpoint.streams


async def test_a_handler_is_cancelled_when_the_peer_gives_up() -> None:
    held = Held()
    async with joined(held) as ends:
        exchange = ends.open()
        await until(lambda: ends.answerer.running)
        exchange.reset(ResetCode.DEADLINE, "too late")
        await ends.settled()
    assert held.cancelled == 1


async def test_an_exchange_that_is_reset_before_its_handler_starts() -> None:
    held = Held()
    async with joined(held) as ends:
        ends.open().reset(ResetCode.CANCELLED)
        await ends.settled()


async def test_a_handler_that_leaves_without_an_answer_gives_up() -> None:
    async def handler(_: Exchange) -> None:
        await trio.lowlevel.checkpoint()

    async with joined(handler) as ends:
        assert await code_of(ends.open()) == (ResetCode.CANCELLED, "")
        assert await code_of(ends.open(b"x", end=False)) == (ResetCode.CANCELLED, "")


async def test_a_defect_in_a_handler_ends_the_run() -> None:
    async def handler(_: Exchange) -> None:
        raise LookupError("a defect")

    near, far = in_memory()
    answerer = Answerer(Link(far, name="far"), handler)
    await near.send(frames("OPEN 1 end", "OPEN 2"))
    with pytest.RaisesGroup(LookupError, LookupError):
        await answerer.run()
    assert (answerer.active, answerer.running) == (0, 0)
    assert show_frames(await near.receive()) == []


async def test_the_relay_goes_away() -> None:
    told: list[int] = []
    near, far = in_memory()
    answerer = Answerer(Link(far, name="far"), Held(), on_goaway=lambda goaway: told.append(goaway.code))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answerer.run)
        await near.send(encode_goaway(GoAwayCode.EXPIRED) + frames("OPEN 1"))
        await until(lambda: told)
        assert answerer.running == 1  # it may still be given exchanges
        answerer.link.close("over")
    assert told == [GoAwayCode.EXPIRED]
    assert answerer.goaway is not None


async def test_faults_of_the_peer_are_answered() -> None:
    near, far = in_memory()
    held = Held()
    answerer = Answerer(Link(far, name="far"), held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answerer.run)
        await near.send(frames("OPEN 1", "HEAD 1 200", "OPEN 2 end"))
        await until(lambda: held.cancelled)
        assert show_frames(await near.receive()) == ["RESET 1 PROTOCOL"]
        assert answerer.running == 1
        await near.send(frames("OPEN 2"))
        await until(lambda: answerer.link.closed)
    assert answerer.link.close_reason == "protocol error: stream 2 was opened before"
    assert held.cancelled == 2
