"""Exchanges between a real opener and a real answerer."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.deadlines import DEADLINE
from tests.support.links import (
    KINDS,
    echo,
    in_lockstep,
    in_memory,
    joined,
    read,
    read_body,
    read_head,
    reset_of,
    respond,
    until,
)
from tests.support.wire_talk import ROUTE, frames, request
from whook.link import (
    HIGH_WATER,
    Answerer,
    Data,
    Exchange,
    ExchangeReset,
    Head,
    Link,
    LinkClosed,
    Opener,
    TooManyExchanges,
)
from whook.wire import (
    INITIAL_CREDIT,
    MAX_PAYLOAD,
    MAX_STREAM_ID,
    ResetCode,
    Response,
    StreamClosed,
    encode_goaway,
)

BIG = bytes(range(256)) * 4096 * 3  #: 3 MiB: many windows


async def stuck(_: Exchange) -> None:
    """Never answer."""
    await trio.sleep_forever()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_small_webhook(kind: str) -> None:
    async with joined(echo, kind) as ends:
        exchange = ends.open(b"hello")
        assert (exchange.id, exchange.request.target, exchange.request_ended) == (1, b"/hook", True)
        assert await read(exchange) == ([200], b"hello", [])
        assert exchange.finished
        await ends.settled()


@pytest.mark.parametrize("kind", KINDS)
async def test_large_bodies_both_ways_at_once(kind: str) -> None:
    async with joined(echo, kind) as ends:
        with ends.open(end=False) as exchange:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: exchange.send_data(BIG, end=True))
                statuses, body, _ = await read(exchange)
        assert (statuses, body == BIG) == ([200], True)
        await ends.settled()


async def test_without_bodies() -> None:
    async with joined(lambda exchange: respond(exchange, 204)) as ends:
        assert await read(ends.open()) == ([204], b"", [])


async def test_trailers_and_informational_heads() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.send_head(Response(103, b"", []))
        body, trailers = await read_body(exchange)
        exchange.send_head(Response(200, b"", []))
        await exchange.send_data(body)
        exchange.send_end(trailers)

    async with joined(handler) as ends:
        exchange = ends.open(b"a", end=False)
        await exchange.send_data(b"b")
        exchange.send_end([(b"Sum", b"2")])
        assert await read(exchange) == ([103, 200], b"ab", [(b"Sum", b"2")])


async def test_after_an_upgrade_raw_bytes_pass_and_either_side_may_end_first() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.send_head(Response(101, b"", []))
        await exchange.send_data(b"server first", end=True)
        body, _ = await read_body(exchange)
        assert body == b"client last"

    async with joined(handler) as ends:
        exchange = ends.open(end=False)
        assert (await read_head(exchange)).response.status == 101
        assert await read_body(exchange) == (b"server first", [])
        assert not exchange.finished
        await exchange.send_data(b"client last", end=True)
        assert exchange.finished
        await ends.settled()


async def test_a_sender_waits_for_credit_and_the_reader_never_does() -> None:
    go = trio.Event()

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == b"/slow":
            await go.wait()
        await echo(exchange)

    async with joined(handler) as ends:
        slow = ends.open(end=False, target=b"/slow")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: slow.send_data(BIG, end=True))
            await wait_all_tasks_blocked()
            far = ends.answerer.endpoint.streams[slow.id]
            assert (
                sum(len(item.data) for item in far.owner._inbox if isinstance(item, Data)) == INITIAL_CREDIT
            )
            assert await read(ends.open(b"quick")) == ([200], b"quick", [])
            go.set()
            assert (await read(slow))[1] == BIG


async def test_two_hundred_exchanges_of_which_one_is_stalled() -> None:
    async with joined(echo, "websocket") as ends:
        stalled = ends.open(end=False)
        await stalled.send_data(bytes(INITIAL_CREDIT))  # and never takes what comes back
        done: list[int] = []

        async def one() -> None:
            exchange = ends.open(b"x" * 3000, end=False)
            await exchange.send_data(b"y" * 3000, end=True)
            assert (await read(exchange))[1] == b"x" * 3000 + b"y" * 3000
            done.append(exchange.id)

        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                for _ in range(199):
                    nursery.start_soon(one)
        assert len(done) == 199
        assert not stalled.finished
        stalled.reset(ResetCode.CANCELLED)
        await ends.settled()


# -- resets -------------------------------------------------------------------------------------------------


async def test_what_came_before_a_reset_is_received_before_it() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.send_head(Response(200, b"", []))
        await exchange.send_data(b"part")
        exchange.reset(ResetCode.LOCAL_FAILED, "it broke off")

    async with joined(handler) as ends:
        exchange = ends.open()
        await until(lambda: exchange.failure)
        assert (await read_head(exchange)).response.status == 200
        item = await exchange.receive()
        assert isinstance(item, Data)
        assert item.data == b"part"
        reset = await reset_of(exchange)
        assert (reset.code, reset.message) == (ResetCode.LOCAL_FAILED, "it broke off")
        assert str(reset) == "LOCAL_FAILED: it broke off"
        for _ in range(2):
            with pytest.raises(ExchangeReset):  # and again
                exchange.receive_nowait()


async def test_nothing_can_be_sent_after_a_reset() -> None:
    async with joined(lambda exchange: exchange_reset(exchange)) as ends:
        exchange = ends.open(end=False)
        await reset_of(exchange)
        with pytest.raises(ExchangeReset):
            await exchange.send_data(b"x")
        with pytest.raises(ExchangeReset):
            await exchange.send_data(BIG)
        with pytest.raises(ExchangeReset):
            exchange.send_end()
        exchange.reset(ResetCode.CANCELLED)  # does nothing
        assert exchange.failure is not None
        assert exchange.failure.code == ResetCode.INTERNAL


async def exchange_reset(exchange: Exchange) -> None:
    exchange.reset(ResetCode.INTERNAL, "why")


async def test_a_reset_wakes_a_sender_that_waits_for_credit() -> None:
    resets: list[int] = []

    async def handler(exchange: Exchange) -> None:
        await until(lambda: not exchange._stream.window)
        exchange.reset(ResetCode.TOO_LARGE)

    async with joined(handler) as ends:
        exchange = ends.open(end=False)
        with trio.fail_after(DEADLINE), pytest.raises(ExchangeReset) as reset:
            await exchange.send_data(BIG)
        resets.append(reset.value.code)
        await ends.settled()
    assert resets == [ResetCode.TOO_LARGE]


async def test_what_is_left_unfinished_is_reset() -> None:
    seen: list[int] = []

    async def handler(exchange: Exchange) -> None:
        with pytest.raises(ExchangeReset) as reset:
            await exchange.receive()
        seen.append(reset.value.code)
        await trio.sleep_forever()  # cancelled as well: nobody waits for what it does

    async with joined(handler) as ends:
        with ends.open(end=False):
            await until(lambda: ends.answerer.running)
        await ends.settled()
    assert seen == [ResetCode.CANCELLED]


async def test_a_newer_peer_has_codes_of_its_own() -> None:
    async with joined(lambda exchange: exchange_reset_77(exchange)) as ends:
        reset = await reset_of(ends.open())
        assert (reset.code, str(reset)) == (77, "77: why")


async def exchange_reset_77(exchange: Exchange) -> None:
    exchange.reset(77, "why")  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["near", "far"])
async def test_a_link_that_dies_fails_every_exchange(how: str) -> None:
    async with joined(stuck, "websocket") as ends:
        waiting = [ends.open() for _ in range(5)]
        sending = ends.open(end=False)
        failed: list[int] = []

        async def send() -> None:
            with pytest.raises(ExchangeReset) as reset:
                await sending.send_data(BIG)
            failed.append(reset.value.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await until(lambda: ends.answerer.running == 6 and not sending._stream.credit)
            (ends.opener if how == "near" else ends.answerer).link.close("cut")
            failed += [(await reset_of(exchange)).code for exchange in [*waiting, sending]]
        assert failed == [ResetCode.TUNNEL_LOST] * 7
        assert all(exchange.finished for exchange in waiting)
        with pytest.raises(LinkClosed):
            ends.open()
        await until(lambda: not ends.answerer.running)


# -- limits -------------------------------------------------------------------------------------------------


async def test_too_many_exchanges() -> None:
    async with joined(stuck, most=2) as ends:
        first = ends.open()
        ends.open()
        with pytest.raises(TooManyExchanges):
            ends.open()
        first.reset(ResetCode.CANCELLED)
        ends.open()


async def test_a_relay_that_goes_away_gets_nothing_new() -> None:
    told: list[int] = []
    near, far = in_memory()
    link = Link(near, name="near")
    opener = Opener(link, on_goaway=lambda goaway: told.append(goaway.code))
    await far.send(encode_goaway(1, "draining"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opener.run)
        await until(lambda: told)
        with pytest.raises(LinkClosed, match="going away"):
            opener.open(ROUTE, request(), end=True)
        link.close("over")


async def test_a_link_that_has_used_up_its_ids_ends() -> None:
    async with joined(echo) as ends:
        ends.opener.endpoint._last_id = MAX_STREAM_ID - 1
        assert await read(ends.open(b"last")) == ([200], b"last", [])
        with pytest.raises(LinkClosed, match="stream ids"):
            ends.open()
        await until(lambda: ends.opener.link.closed)


async def test_heads_that_do_not_fit() -> None:
    huge = [(b"x", bytes(MAX_PAYLOAD))]
    refused: list[str] = []

    async def handler(exchange: Exchange) -> None:
        with pytest.raises(ValueError, match="does not fit"):
            exchange.send_head(Response(200, b"", huge))
        refused.append("head")
        await respond(exchange, 502)
        with pytest.raises(StreamClosed):
            exchange.send_head(Response(200, b"", []))

    async with joined(handler) as ends:
        with pytest.raises(ValueError, match="does not fit"):
            ends.opener.open(ROUTE, msgspec.structs.replace(request(), headers=huge), end=True)
        assert ends.opener.active == 0
        assert await read(ends.open()) == ([502], b"", [])
    assert refused == ["head"]


async def test_a_full_link_makes_senders_wait_and_loses_no_end() -> None:
    """An empty last piece needs no credit, and must not be forgotten while much is pending."""
    near, far = in_lockstep()
    opener = Opener(Link(near, name="near"))
    exchange = opener.open(ROUTE, request(), end=False)
    opener.link.send(bytes(HIGH_WATER + 1))
    async with trio.open_nursery() as nursery:
        await exchange.send_data(b"", end=True)
        with trio.move_on_after(0) as scope:
            await opener.open(ROUTE, request(), end=False).send_data(b"x")
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()
    assert [stream.local.value for stream in opener.endpoint.streams.values()] == ["done", "body"]
    await far.aclose()


async def test_an_early_answer_leaves_the_rest_of_the_request_to_be_given_up() -> None:
    async with joined(lambda exchange: respond(exchange, 413, b"too much")) as ends:
        exchange = ends.open(end=False)
        item = await exchange.receive()
        assert isinstance(item, Head)
        assert await read_body(exchange) == (b"too much", [])
        await until(lambda: exchange.failure)
        assert exchange.finished


async def test_copies_for_onlookers_are_received_and_never_answered() -> None:
    seen: list[tuple[bool, bytes]] = []

    async def handler(exchange: Exchange) -> None:
        body = b"" if exchange.request_ended else (await read_body(exchange))[0]
        seen.append((exchange.watch, body))
        with pytest.raises(StreamClosed):
            exchange.send_head(Response(200, b"", []))

    near, far = in_memory()
    answerer = Answerer(Link(far, name="far"), handler)
    await near.send(frames("OPEN 1 watch end", "OPEN 2 watch", "DATA 2 'copy'", "END 2"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answerer.run)
        await until(lambda: len(seen) == 2)
        answerer.link.finish("enough")
    assert sorted(seen) == [(True, b""), (True, b"copy")]
    assert await near.receive() == b""  # nothing at all was sent
