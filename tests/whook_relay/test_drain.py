"""How a relay ends: nobody is cut off who can finish, and nobody can hold it up."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.deadlines import DEADLINE
from tests.support.links import read, reset_of, respond, until
from tests.support.relay import CLUSTER_KEY, Faulty, Relay, hello, open_relay, opened, token
from tests.support.wire_talk import request
from whook.backplane.memory import open_memory_backplane
from whook.link import (
    Exchange,
    Link,
    LinkClosed,
    LinkRefused,
    Opener,
    StreamTransport,
    introduce_conductor,
)
from whook.link.websocket import connect_websocket
from whook.wire import GoAwayCode, ResetCode, encode_goaway, encode_hello


class Held:
    """A handler that answers when it is let."""

    def __init__(self) -> None:
        self.go = trio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await self.go.wait()
        await respond(exchange, 200, b"done")


async def stuck(_: Exchange) -> None:
    await trio.sleep_forever()


async def ended(relay: Relay) -> None:
    with trio.fail_after(DEADLINE):
        await relay.ended.wait()
    assert relay.tables == {}
    assert await relay.backplane.directory.relays() == []
    assert await relay.backplane.directory.routes() == []


async def test_alone_it_sends_the_idle_away_and_lets_the_busy_finish() -> None:
    held = Held()
    async with (
        open_relay() as relay,
        relay.conductor() as conductor,
        relay.client(held) as busy,
        relay.client(project="blog") as idle,
        relay.client(introduction=hello("cli_w", mode="watch"), project="blog") as onlooker,
    ):
        running = opened(conductor, busy)
        await until(lambda: busy.answerer.running)
        relay.drain.begin("SIGTERM")
        for client in (idle, onlooker):
            await client.ended()
            assert client.codes == [GoAwayCode.DRAIN]
            assert client.goaways[0].message == "the relay is going away: SIGTERM"
        assert busy.codes == [GoAwayCode.DRAIN]
        assert (await reset_of(opened(conductor, busy))).code == ResetCode.NO_TUNNEL
        assert not relay.readiness.ready
        held.go.set()
        assert await read(running) == ([200], b"done", [])
        await busy.ended()
        await ended(relay)
        await until(lambda: conductor.link.closed)
        assert conductor.link.close_reason == "the peer closed the connection"


async def test_beside_another_relay_clients_move_before_they_leave() -> None:
    held = Held()
    async with (
        open_relay() as relay,
        open_relay(backplane=relay.backplane, relay_id="relay-2") as other,
        relay.conductor() as conductor,
        relay.client(held) as old,
    ):
        running = opened(conductor, old)
        await until(lambda: old.answerer.running)
        relay.drain.begin("SIGTERM")
        await until(lambda: old.goaways)
        late = opened(conductor, old)
        await until(lambda: old.answerer.running == 2)  # it still serves: there is no gap
        async with other.client() as new, other.conductor() as second:
            await until(lambda: not relay.switch.routes)
            assert old.codes == [GoAwayCode.DRAIN, GoAwayCode.MOVED]
            assert await read(opened(second, new, b"x")) == ([200], b"x", [])
            held.go.set()
            assert await read(running) == await read(late) == ([200], b"done", [])
            await old.ended()
            with trio.fail_after(DEADLINE):
                await relay.ended.wait()
            assert await other.holder() == new.hello.tunnel_id
            (left,) = await other.backplane.directory.relays()
            assert left.id == "relay-2"


async def test_a_relay_that_drains_is_no_other_relay() -> None:
    async with (
        open_relay(lease_interval=0.02) as relay,
        open_relay(backplane=relay.backplane, relay_id="relay-2", lease_interval=0.02) as other,
        relay.conductor() as conductor,
        relay.client(stuck) as busy,
        other.client(introduction=hello("cli_2"), project="blog") as client,
    ):
        exchange = opened(conductor, busy)
        await until(lambda: busy.answerer.running)
        relay.drain.begin("SIGTERM")
        await until(lambda: busy.goaways)
        await draining(relay)
        other.drain.begin("SIGTERM")
        await client.ended()  # nowhere to go, so it is not kept
        exchange.reset(ResetCode.CANCELLED)
        busy.answerer.drain("going")


async def draining(relay: Relay) -> None:
    with trio.fail_after(DEADLINE):
        while not any(info.draining for info in await relay.backplane.directory.relays()):
            await wait_all_tasks_blocked()


@pytest.mark.parametrize("beside_another", [False, True])
async def test_what_will_not_finish_is_cut_off_at_the_deadline(beside_another: bool) -> None:
    async with (
        open_relay(grace=0.3) as relay,
        relay.client(stuck) as client,
        relay.conductor() as conductor,
        relay.dial(project="silent") as silent,
        relay.dial(project="nothing-said"),
    ):
        if beside_another:
            (info,) = await relay.backplane.directory.relays()
            await relay.backplane.directory.announce(replace(info, id="relay-2"), 60)
        await silent.send_now(encode_hello(hello("cli_s")))
        route = (await silent.receive_hello()).tunnel_id.encode()
        for _ in range(20):  # its sockets are full of what it does not read
            opened(conductor, route, bytes(60_000), end=False)
        exchange = opened(conductor, client)
        await until(lambda: client.answerer.running)
        relay.drain.begin("SIGTERM")
        assert (await reset_of(exchange)).code == ResetCode.TUNNEL_LOST
        with trio.fail_after(DEADLINE):
            await relay.ended.wait()
        assert relay.tables == {}
        assert "relay-1" not in {info.id for info in await relay.backplane.directory.relays()}


async def test_cancelled_from_outside_it_leaves_at_once() -> None:
    async with open_memory_backplane() as backplane:
        with trio.CancelScope() as scope:
            async with (
                open_relay(backplane=backplane) as relay,
                relay.client(stuck) as client,
                relay.conductor() as conductor,
            ):
                opened(conductor, client)
                await until(lambda: client.answerer.running)
                scope.cancel()
        assert relay.tables == {}


# -- those who come while it drains -------------------------------------------------------------------------


async def test_a_handshake_that_comes_too_late() -> None:
    """The listener has closed; one that was accepted before is told to go elsewhere."""
    async with open_relay() as relay, relay.conductor() as conductor, relay.client(stuck) as client:
        exchange = opened(conductor, client)
        await until(lambda: client.answerer.running)
        host, _, port = relay.ports.tunnel_url.split("//")[1].split("/")[0].rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await wait_all_tasks_blocked()
            relay.drain.begin("SIGTERM")
            await until(lambda: client.goaways)
            await stream.send_all(
                b"GET /v1/tunnel HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Protocol: whook.v1\r\nAuthorization: Bearer " + token().encode() + b"\r\n\r\n"
            )
            answer = b""
            with trio.fail_after(DEADLINE):
                async for data in stream:
                    answer += data
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 5" in answer.lower()
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:whook:problem:no-relay"
        exchange.reset(ResetCode.CANCELLED)


async def test_an_introduction_that_comes_too_late() -> None:
    async with open_relay() as relay, relay.dial() as link:
        await until(lambda: relay.readiness.ready)
        relay.drain.begin("SIGTERM")
        await wait_all_tasks_blocked()
        await link.send_now(encode_hello(hello()))
        with pytest.raises(LinkRefused) as refused, trio.fail_after(DEADLINE):
            await link.receive_hello()
        assert refused.value.goaway.code == GoAwayCode.DRAIN
        await ended(relay)


async def test_a_claim_that_is_under_way_when_the_drain_begins() -> None:
    async with open_memory_backplane() as backplane:
        gate, claiming = trio.Event(), trio.Event()

        class Slow(Faulty):
            async def claim(self, **claim: object) -> object:
                claiming.set()
                await gate.wait()
                return await backplane.directory.claim(**claim)  # type: ignore[arg-type]

        slow = Slow(backplane.directory)
        async with open_relay(backplane=backplane, directory=slow.seen) as relay, relay.dial() as link:
            await link.send_now(encode_hello(hello()))
            with trio.fail_after(DEADLINE):
                await claiming.wait()
                relay.drain.begin("SIGTERM")
                await wait_all_tasks_blocked()
                gate.set()
                assert (await link.receive_hello()).tunnel_id
                with pytest.raises(LinkRefused) as refused:
                    await link.receive_hello()
                assert refused.value.goaway.code == GoAwayCode.DRAIN
                await link._transport.aclose()
                await ended(relay)


async def test_a_conductor_that_comes_in_the_last_moment() -> None:
    """Trunks are served while tunnels finish; one that comes after that must not hold the relay up."""
    async with open_relay() as relay, relay.client(stuck) as client, relay.conductor() as conductor:
        exchange = opened(conductor, client)
        await until(lambda: client.answerer.running)
        host, _, port = relay.ports.trunk_url.removeprefix("tcp://").rpartition(":")
        relay.drain.begin("SIGTERM")
        await until(lambda: client.goaways)
        async with await trio.open_tcp_stream(host, int(port)) as stream, relay.conductor() as second:
            assert (await reset_of(opened(second, client))).code == ResetCode.NO_TUNNEL
            exchange.reset(ResetCode.CANCELLED)
            await until(lambda: second.link.closed)
            late = Link(StreamTransport(stream), name="late")
            with trio.fail_after(DEADLINE):
                await introduce_conductor(late, CLUSTER_KEY.encode(), agent="x", instance="con_2")
                with pytest.raises(LinkRefused) as refused:
                    await late.receive_hello()
            assert refused.value.goaway.code == GoAwayCode.DRAIN
            await ended(relay)


async def test_a_lease_that_cannot_be_withdrawn_does_not_hold_up() -> None:
    async with open_memory_backplane() as backplane:
        faulty = Faulty(backplane.directory)
        async with open_relay(backplane=backplane, directory=faulty.seen) as relay, relay.client() as client:
            faulty.broken |= {"withdraw", "relays", "announce"}
            relay.drain.begin("SIGTERM")
            await client.ended()
            with trio.fail_after(DEADLINE):
                await relay.ended.wait()
            assert [info.id for info in await backplane.directory.relays()] == ["relay-1"]


async def test_ports_are_free_again() -> None:
    async with open_relay() as relay:
        listen = relay.ports.tunnel_url.split("//")[1].split("/")[0]
        relay.drain.begin("SIGTERM")
        await ended(relay)
    with pytest.raises(LinkClosed):
        async with connect_websocket(f"ws://{listen}/v1/tunnel", headers=[], timeout=DEADLINE):
            pytest.fail("somebody is there")
    async with open_relay(listen=listen) as again, again.client():
        pass


async def test_an_exchange_that_a_conductor_opens_before_it_hears_of_the_end_is_sent_elsewhere() -> None:
    """Not lost with the trunk: the relay refuses it, and closes when the conductor has taken leave."""
    async with open_relay() as relay:
        host, _, port = relay.ports.trunk_url.removeprefix("tcp://").rpartition(":")
        async with await trio.open_tcp_stream(host, int(port)) as stream, trio.open_nursery() as nursery:
            link = Link(StreamTransport(stream), name="trunk")
            with trio.fail_after(DEADLINE):
                await introduce_conductor(link, CLUSTER_KEY.encode(), agent="x", instance="con_1")
            conductor = Opener(link)
            nursery.start_soon(conductor.run)
            relay.drain.begin("SIGTERM")
            await until(lambda: conductor.goaway)
            stream_, frame = conductor.endpoint.open(b"tun_moved", request(), end=True)
            late = Exchange(conductor, stream_, request(), request_ended=True)
            link.send(frame + encode_goaway(GoAwayCode.DRAIN, "as you wish"))
            assert (await reset_of(late)).code == ResetCode.NO_TUNNEL
            await until(lambda: link.closed)
        await ended(relay)


async def test_the_directory_knows_of_a_drain_before_the_clients_do() -> None:
    """Otherwise conductors would send them back to this relay."""
    async with open_relay() as relay, relay.client(stuck) as client, relay.conductor() as conductor:
        exchange = opened(conductor, client)
        await until(lambda: client.answerer.running)
        relay.drain.begin("SIGTERM")
        await until(lambda: client.goaways)
        assert [info.draining for info in await relay.backplane.directory.relays()] == [True]
        exchange.reset(ResetCode.CANCELLED)
