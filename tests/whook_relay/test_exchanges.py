"""Webhooks through a real relay, from a conductor's trunk to a client's tunnel and back."""

from __future__ import annotations

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.links import read, read_body, read_head, reset_of, respond, until
from tests.support.relay import hello, open_relay, opened
from tests.support.wire_talk import frame
from whook.link import Exchange
from whook.wire import INITIAL_CREDIT, GoAwayCode, ResetCode, Response, encode_frame, encode_hello
from whook_relay import switch as switch_module

BIG = bytes(range(256)) * 8192  #: 2 MiB


async def stuck(_: Exchange) -> None:
    await trio.sleep_forever()


async def test_a_request_and_its_answer() -> None:
    async with open_relay() as relay, relay.client() as client, relay.conductor() as conductor:
        exchange = opened(conductor, client, b"hello")
        assert await read(exchange) == ([200], b"hello", [])
        await until(lambda: not relay.circuits)
        assert relay.switch.opened == 1
        assert (client.hello.peer, client.hello.heartbeat, client.hello.max_exchanges) == ("relay", 20.0, 256)


async def test_heads_pass_untouched() -> None:
    seen: list[object] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request)
        exchange.send_head(Response(103, b"", [(b"Link", b"</a>")]))
        exchange.send_head(Response(299, b"Odd reason", [(b"X-Odd", b"a"), (b"x-ODD", b"b")]))
        exchange.send_end([(b"Sum", b"1")])

    async with open_relay() as relay, relay.client(handler) as client, relay.conductor() as conductor:
        exchange = opened(conductor, client)
        assert (await read_head(exchange)).response.headers == [(b"Link", b"</a>")]
        head = (await read_head(exchange)).response
        assert head == Response(299, b"Odd reason", [(b"X-Odd", b"a"), (b"x-ODD", b"b")])
        assert await read_body(exchange) == (b"", [(b"Sum", b"1")])
    assert seen == [exchange.request]


async def test_large_bodies_both_ways_and_many_at_once() -> None:
    async with open_relay() as relay, relay.client() as client, relay.conductor() as conductor:

        async def one() -> None:
            exchange = opened(conductor, client, end=False)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: exchange.send_data(BIG, end=True))
                assert (await read(exchange))[1] == BIG

        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(one)
        await until(lambda: not relay.circuits)


async def test_several_conductors_and_tunnels() -> None:
    async with open_relay() as relay:
        async with (
            relay.conductor() as first,
            relay.conductor() as second,
            relay.client() as shop,
            relay.client(project="blog") as blog,
        ):
            exchanges = [
                (opened(conductor, client, name), name)
                for name in (b"a", b"b", b"c")
                for conductor in (first, second)
                for client in (shop, blog)
            ]
            for exchange, name in exchanges:
                assert await read(exchange) == ([200], name, [])
            assert relay.tables == {"tunnels": 2, "routes": 2, "by_project": 2, "trunks": 2}
        await until(lambda: not relay.tables)


async def test_credit_passes_from_end_to_end() -> None:
    async with open_relay() as relay, relay.client(stuck) as client, relay.conductor() as conductor:
        exchange = opened(conductor, client, end=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: exchange.send_data(BIG))
            await until(lambda: not exchange._stream.credit)
            await until(lambda: client.answerer.running)
            (far,) = client.answerer.endpoint.streams.values()
            await until(lambda: not far.window)
            assert sum(len(item.data) for item in far.owner._inbox) == INITIAL_CREDIT
            nursery.cancel_scope.cancel()
        exchange.reset(ResetCode.CANCELLED)
        await until(lambda: not client.answerer.running)


# -- the ways an exchange fails -----------------------------------------------------------------------------


async def test_an_unknown_tunnel() -> None:
    async with open_relay() as relay, relay.conductor() as conductor:
        exchange = opened(conductor, b"tun_unknown", b"body", end=False)
        reset = await reset_of(exchange)
        assert (reset.code, reset.message) == (ResetCode.NO_TUNNEL, "the tunnel is not here")
        assert relay.switch.refused[ResetCode.NO_TUNNEL] == 1


async def test_a_tunnel_that_is_gone() -> None:
    async with open_relay() as relay, relay.conductor() as conductor:
        async with relay.client() as client:
            assert (await read(opened(conductor, client)))[0] == [200]
        await until(lambda: not relay.switch.tunnels)
        assert (await reset_of(opened(conductor, client))).code == ResetCode.NO_TUNNEL
        assert await relay.holder() == ""


async def test_a_tunnel_lost_in_flight() -> None:
    async with open_relay() as relay, relay.conductor() as conductor:
        async with relay.client(stuck) as client:
            exchanges = [opened(conductor, client), opened(conductor, client, b"part", end=False)]
            await until(lambda: client.answerer.running == 2)
            assert relay.circuits == 2
        for exchange in exchanges:
            assert (await reset_of(exchange)).code == ResetCode.TUNNEL_LOST
        assert relay.circuits == 0


async def test_a_tunnel_lost_in_the_middle_of_its_answer() -> None:
    async def handler(exchange: Exchange) -> None:
        await respond(exchange, 200, b"part", end=False)
        await trio.sleep_forever()

    async with open_relay() as relay, relay.conductor() as conductor:
        async with relay.client(handler) as client:
            exchange = opened(conductor, client)
            assert (await read_head(exchange)).response.status == 200
        assert (await reset_of(exchange)).code == ResetCode.TUNNEL_LOST


async def test_a_conductor_that_is_gone() -> None:
    seen: list[int] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await trio.sleep_forever()
        finally:
            assert exchange.failure is not None
            seen.append(exchange.failure.code)

    async with open_relay() as relay, relay.client(handler) as client:
        async with relay.conductor() as conductor:
            opened(conductor, client)
            opened(conductor, client, end=False)
            await until(lambda: client.answerer.running == 2)
        await until(lambda: not client.answerer.running)
        assert relay.tables == {"tunnels": 1, "routes": 1, "by_project": 1}
    assert seen == [ResetCode.CANCELLED] * 2


async def test_either_end_may_give_up() -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request_ended:
            exchange.reset(ResetCode.LOCAL_FAILED, "it fell over")
        await trio.sleep_forever()

    async with open_relay() as relay, relay.client(handler) as client, relay.conductor() as conductor:
        reset = await reset_of(opened(conductor, client))
        assert (reset.code, reset.message) == (ResetCode.LOCAL_FAILED, "it fell over")
        exchange = opened(conductor, client, end=False)
        await until(lambda: client.answerer.active)
        exchange.reset(ResetCode.DEADLINE)
        await until(lambda: not client.answerer.active)
        assert relay.circuits == 0


async def test_more_exchanges_than_a_tunnel_takes() -> None:
    async with (
        open_relay(max_exchanges=2) as relay,
        relay.client(stuck) as client,
        relay.client(project="blog") as other,
        relay.conductor() as conductor,
    ):
        running = [opened(conductor, client), opened(conductor, client)]
        assert (await reset_of(opened(conductor, client))).code == ResetCode.OVERLOADED
        assert (await read(opened(conductor, other, b"x")))[1] == b"x"  # another project does not notice
        assert relay.switch.refused[ResetCode.OVERLOADED] == 1
        running[0].reset(ResetCode.CANCELLED)
        await until(lambda: relay.circuits == 1)
        assert client.hello.max_exchanges == 2


async def test_a_tunnel_with_too_much_waiting_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch_module, "TUNNEL_BACKLOG", 300_000)
    async with open_relay() as relay, relay.conductor() as conductor, relay.dial() as slow:
        await slow.send_now(encode_hello(hello()))
        answer = await slow.receive_hello()
        route = answer.tunnel_id.encode()
        tunnel = relay.switch.tunnels[answer.tunnel_id]
        running: list[Exchange] = []
        with trio.fail_after(DEADLINE):
            while tunnel.link.pending <= 300_000:  # it reads nothing, so its sockets fill up
                running.append(opened(conductor, route, end=False))
                await running[-1].send_data(bytes(INITIAL_CREDIT))
                await trio.testing.wait_all_tasks_blocked()
        assert (await reset_of(opened(conductor, route))).code == ResetCode.OVERLOADED
        async with relay.client(project="blog") as other:
            assert (await read(opened(conductor, other, b"x")))[1] == b"x"


# -- conductors that break the rules ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame("DATA 9 'x'"), "frame of type 4 for stream 9, never opened"),
        (frame("OPEN 1"), "stream 1 was opened before"),
        (frame("RESET 1 CANCELLED") + frame("OPEN 1"), "stream 1 was opened before"),
        (encode_frame(2, 0, 2, b"\x09tun"), "OPEN ends inside its route"),
    ],
)
async def test_faults_on_a_trunk_end_that_trunk(data: bytes, why: str) -> None:
    async with (
        open_relay() as relay,
        relay.client(stuck) as client,
        relay.conductor() as faulty,
        relay.conductor() as other,
    ):
        lost, kept = opened(faulty, client), opened(other, client)
        await until(lambda: client.answerer.running == 2)
        faulty.link.send(data)
        assert (await reset_of(lost)).code == ResetCode.TUNNEL_LOST
        assert faulty.goaway is not None
        assert (faulty.goaway.code, faulty.goaway.message) == (GoAwayCode.PROTOCOL, why)
        await until(lambda: client.answerer.running == 1)
        assert relay.circuits == 1
        assert kept.failure is None
        kept.reset(ResetCode.CANCELLED)
