"""A relay that an operator takes out of service: nobody is cut off, nobody new comes; it can be undone."""

from __future__ import annotations

import time

import pytest
import trio

from tests.support.claims import LONG
from tests.support.claims import relay as other_relay
from tests.support.deadlines import DEADLINE
from tests.support.links import read, respond, until
from tests.support.relay import Relay, hello, open_relay, opened, token
from whook.backplane.memory import open_memory_backplane
from whook.backplane.ports import (
    TOPIC_KICK,
    TOPIC_ORDERS,
    TOPIC_RELAYS,
    Kick,
    RelayInfo,
    RelayOrder,
    encode_event,
)
from whook.link import Exchange, HandshakeRefused
from whook.link.websocket import connect_websocket
from whook.wire import GoAwayCode
from whook_relay.standby import Standby


def order(*, drain: bool = True, relay_id: str = "relay-1", at: float | None = None) -> RelayOrder:
    return RelayOrder(relay_id=relay_id, drain=drain, at=time.time() if at is None else at, by="ann")


async def tell(relay: Relay, given: RelayOrder) -> None:
    await relay.bus.publish(TOPIC_ORDERS, encode_event(given), keep=60.0)


async def announced(relay: Relay, *, draining: bool) -> RelayInfo:
    """Wait until the directory says so of the relay."""
    with trio.fail_after(DEADLINE):
        async with relay.backplane.bus.subscribe(TOPIC_RELAYS) as news:
            while True:
                for one in await relay.backplane.directory.relays():
                    if one.id == "relay-1" and one.draining is draining:
                        return one
                await anext(news)


async def look(_: Exchange) -> None:
    """See a copy of an exchange; there is nothing to answer."""
    await trio.sleep_forever()


async def test_clients_are_sent_away_and_finish_what_they_have() -> None:
    go = trio.Event()

    async def held(exchange: Exchange) -> None:
        await go.wait()
        await respond(exchange, 200, b"done")

    async with (
        open_relay() as relay,
        relay.conductor() as conductor,
        relay.client(held) as busy,
        relay.client(project="blog") as idle,
        relay.client(look, hello("cli_w", mode="watch"), project="blog") as onlooker,
    ):
        await relay.backplane.directory.announce(other_relay("relay-2"), LONG)
        running = opened(conductor, busy)
        await until(lambda: relay.circuits == 1)
        await tell(relay, order())
        for client in (busy, idle, onlooker):
            await until(lambda client=client: client.codes == [GoAwayCode.DRAIN])  # type: ignore[misc]
        # Told at once, not with the next renewal; still held, because nobody has opened a new tunnel.
        assert (await announced(relay, draining=True)).capacity
        assert await relay.holder("blog") == idle.hello.tunnel_id
        assert (await read(opened(conductor, idle)))[0] == [200]
        go.set()
        assert (await read(running))[:2] == ([200], b"done")
        assert not busy.link.closed
        with pytest.raises(HandshakeRefused) as refused:
            await _dial(relay, "late")
        assert refused.value.status == 503
        await tell(relay, order(drain=False))
        await announced(relay, draining=False)
        async with relay.client(project="late") as late:
            assert await relay.holder("late") == late.hello.tunnel_id


async def _dial(relay: Relay, project: str) -> None:
    bearer = {"Authorization": f"Bearer {token(project)}"}
    headers = [(name.encode(), value.encode()) for name, value in bearer.items()]
    async with connect_websocket(relay.ports.tunnel_url, headers=headers, timeout=DEADLINE):
        pass


async def test_an_order_that_was_missed_is_read_later_but_not_one_to_an_earlier_process() -> None:
    async with open_memory_backplane() as backplane:
        earlier, meant = order(at=time.time() - 60), order(at=time.time() + 60)
        await backplane.bus.publish(TOPIC_ORDERS, encode_event(earlier), keep=600)
        async with open_relay(backplane=backplane) as relay:
            assert not (await announced(relay, draining=False)).draining
        await backplane.bus.publish(TOPIC_ORDERS, encode_event(meant), keep=600)
        async with open_relay(backplane=backplane) as relay:
            assert (await announced(relay, draining=True)).draining


async def test_of_two_orders_the_later_one_stands() -> None:
    standby = Standby("relay-1", started_at=100.0)
    standby.obey(order(relay_id="relay-2", at=101.0))
    assert not standby.active
    changed = standby.changed
    standby.obey(order(at=105.0))
    assert standby.active
    assert changed.is_set()
    standby.obey(order(drain=False, at=104.0))
    assert standby.active
    standby.obey(order(drain=False, at=106.0))
    assert not standby.active
    standby.obey(order(at=99.0), kept=True)
    assert not standby.active
    assert standby.check() is None


async def test_a_kick_of_one_tunnel_closes_that_one_alone() -> None:
    async with open_relay() as relay, relay.client() as first, relay.client(project="blog") as second:
        now = time.time()
        kick = Kick(tunnel_id=first.hello.tunnel_id, reason="an operator closed it", at=now, until=now + 60)
        await relay.bus.publish(TOPIC_KICK, encode_event(kick), keep=60.0)
        await first.ended()
        assert [(one.code, one.message) for one in first.goaways] == [
            (GoAwayCode.REVOKED, "an operator closed it")
        ]
        assert not second.link.closed
        # The person may come again: the token was not withdrawn.
        async with relay.client() as again:
            assert await relay.holder() == again.hello.tunnel_id
