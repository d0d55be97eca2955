"""Onlookers: they see every request, answer none, and delay nobody."""

from __future__ import annotations

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.links import read, read_body, reset_of, respond, until
from tests.support.relay import hello, open_relay, opened
from whook.link import Exchange, ExchangeReset
from whook.wire import GoAwayCode, ResetCode, Response, encode_hello, encode_response
from whook_relay import switch as switch_module

WATCH = hello("cli_w", "eve@desk", "watch")


class Eyes:
    """A handler of an onlooker: notes what it sees."""

    def __init__(self) -> None:
        self.begun = 0
        self.seen: list[bytes] = []
        self.broken: list[int] = []

    async def __call__(self, exchange: Exchange) -> None:
        assert exchange.watch
        self.begun += 1
        try:
            body = b"" if exchange.request_ended else (await read_body(exchange))[0]
        except ExchangeReset as reset:
            self.broken.append(reset.code)
        else:
            self.seen.append(body)


async def test_an_onlooker_sees_every_request_and_answers_none() -> None:
    eyes, more_eyes = Eyes(), Eyes()
    async with (
        open_relay() as relay,
        relay.conductor() as conductor,
        relay.client() as client,
        relay.client(eyes, WATCH),
        relay.client(more_eyes, WATCH),
        relay.client(Eyes(), WATCH, project="blog"),
    ):
        assert await read(opened(conductor, client, b"one")) == ([200], b"one", [])
        exchange = opened(conductor, client, b"t", end=False)
        await exchange.send_data(b"w")
        exchange.send_end([(b"Sum", b"1")])
        assert await read(exchange) == ([200], b"tw", [(b"Sum", b"1")])
        assert (await read(opened(conductor, client)))[0] == [200]
        await until(lambda: len(eyes.seen) == len(more_eyes.seen) == 3)
        assert eyes.seen == more_eyes.seen == [b"one", b"tw", b""]
        assert relay.tables == {"tunnels": 4, "routes": 1, "by_project": 1, "watchers": 2, "trunks": 1}


async def test_an_onlooker_holds_nothing() -> None:
    async with open_relay(max_watchers=1) as relay:
        async with relay.client(Eyes(), WATCH):
            assert await relay.holder() == ""
            full = await relay.refusal(hello("cli_v", mode="watch"))
            assert (full.code, full.retry_after) == (GoAwayCode.FULL, 5.0)
            async with relay.client():  # the project is free
                assert "watchers" in relay.tables
        await until(lambda: not relay.tables)
        async with relay.client(Eyes(), WATCH):
            pass


async def test_an_onlooker_that_answers_changes_nothing() -> None:
    async with open_relay() as relay, relay.conductor() as conductor, relay.dial() as onlooker:
        await onlooker.send_now(encode_hello(WATCH))
        await onlooker.receive_hello()
        async with relay.client() as client:
            exchange = opened(conductor, client, b"x", end=False)
            await until(lambda: client.answerer.running)
            await onlooker.send_now(encode_response(1, 1, Response(666, b"", [])))
            exchange.send_end()
            assert await read(exchange) == ([200], b"x", [])


@pytest.mark.parametrize("how", ["sender", "client", "conductor", "tunnel", "early answer"])
async def test_an_onlooker_learns_that_a_request_broke_off(how: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.receive()
        if how == "client":
            exchange.reset(ResetCode.INTERNAL)
        if how == "early answer":
            await respond(exchange, 413)
            return
        await trio.sleep_forever()

    eyes = Eyes()
    async with (
        open_relay() as relay,
        relay.client(eyes, WATCH) as onlooker,
        relay.conductor() as conductor,
        relay.client(handler) as client,
    ):
        exchange = opened(conductor, client, b"part", end=False)
        await until(lambda: eyes.begun)
        if how == "sender":
            exchange.reset(ResetCode.CANCELLED)
        elif how == "conductor":
            conductor.link.close("cut")
        elif how == "tunnel":
            client.link.close("cut")
        await until(lambda: eyes.broken)
        await until(lambda: not onlooker.answerer.active)
    assert len(eyes.broken) == 1
    assert eyes.seen == []


async def test_a_slow_onlooker_delays_nobody_and_misses_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch_module, "WATCHER_BACKLOG", 200_000)
    async with open_relay() as relay, relay.conductor() as conductor, relay.dial() as slow:
        await slow.send_now(encode_hello(WATCH))
        tunnel = relay.switch.tunnels[(await slow.receive_hello()).tunnel_id]
        eyes = Eyes()
        async with relay.client() as client, relay.client(eyes, WATCH):
            streamed = opened(conductor, client, b"x", end=False)
            count = 0
            with trio.fail_after(DEADLINE):
                while tunnel.link.pending <= 200_000:  # nobody reads its copies
                    assert len((await read(opened(conductor, client, bytes(60_000))))[1]) == 60_000
                    count += 1
            for _ in range(10):
                assert len((await read(opened(conductor, client, bytes(60_000))))[1]) == 60_000
            assert tunnel.link.pending < 300_000  # what came later was not copied for it
            await until(lambda: len(eyes.seen) == count + 10)  # the quick one saw them all
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: streamed.send_data(bytes(1_000_000), end=True))
                assert len((await read(streamed))[1]) == 1_000_001
            await until(lambda: len(eyes.seen) == count + 11)
            assert tunnel.link.pending < 600_000  # and of what it was getting, the rest was given up


async def test_an_onlooker_is_sent_after_its_project() -> None:
    async with (
        open_relay() as relay,
        open_relay(backplane=relay.backplane, relay_id="relay-2") as other,
        relay.client(Eyes(), WATCH) as onlooker,
        other.client(),
    ):
        await until(lambda: onlooker.goaways)
        assert onlooker.codes == [GoAwayCode.MOVED]
        await onlooker.ended()
        await until(lambda: not relay.tables)


async def test_the_reset_of_an_onlooker_is_nobodys_business() -> None:
    async def refuse(exchange: Exchange) -> None:
        exchange.reset(ResetCode.OVERLOADED)

    async with (
        open_relay() as relay,
        relay.conductor() as conductor,
        relay.client() as client,
        relay.client(refuse, WATCH),
    ):
        exchange = opened(conductor, client, b"x", end=False)
        await until(lambda: client.answerer.running)
        exchange.send_end()
        assert await read(exchange) == ([200], b"x", [])
        assert (await reset_of(opened(conductor, b"tun_none"))).code == ResetCode.NO_TUNNEL
