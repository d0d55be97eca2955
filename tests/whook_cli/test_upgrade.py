"""Upgrades: after 101, raw bytes both ways with half-close; and requests that asked and were refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import trio

from tests.support.deadlines import DEADLINE, Gate
from tests.support.far_end import ROUTE, read, request
from tests.support.forwarding import Client, connections, forwarding
from tests.support.origin import Origin, Turn, ok, reply, response
from whook.link import Data, Exchange, ExchangeReset, Head
from whook.wire import ResetCode
from whook_cli.records import RequestRecord

ASK = [(b"Host", b"h"), (b"Connection", b"Upgrade"), (b"Upgrade", b"echo")]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as made:
        yield made
        made.check()


def opened(client: Client) -> Exchange:
    return client.opener.open(ROUTE, request(b"GET", headers=ASK), end=False)


async def switched(exchange: Exchange) -> None:
    with trio.fail_after(DEADLINE):
        head = await exchange.receive()
    assert isinstance(head, Head)
    assert head.response.status == 101
    assert head.response.headers == [(b"Connection", b"Upgrade"), (b"Upgrade", b"echo")]


async def received(exchange: Exchange, size: int) -> bytes:
    data = b""
    with trio.fail_after(DEADLINE):
        while len(data) < size:
            item = await exchange.receive()
            assert isinstance(item, Data)
            data += item.data
    return data


async def test_raw_bytes_pass_both_ways_and_half_close(origin: Origin) -> None:
    def echo(turn: Turn) -> None:
        turn.send(SWITCH, b"first")
        rest = turn.peer.take_rest()  # until the sender has closed its direction
        turn.send(b"<" + rest + b">")
        turn.close()

    origin.script(echo)
    async with forwarding(origin.url) as client:
        exchange = opened(client)
        await switched(exchange)
        assert await received(exchange, 5) == b"first"
        shown = client.shown[0]
        assert isinstance(shown, RequestRecord)
        assert (shown.still_open, shown.status) == (True, 101)
        await exchange.send_data(b"\x00\xff raw")
        exchange.send_end()
        assert (await read(exchange)).body == b"<\x00\xff raw>"
    record = client.records[0]
    assert (record.status, record.error, record.request_bytes, record.response_bytes) == (101, "", 6, 13)


async def test_the_other_half_can_close_first(origin: Origin) -> None:
    gate = Gate("local server has closed its half")
    seen: list[bytes] = []

    def talk(turn: Turn) -> None:
        turn.send(SWITCH)
        turn.peer.end()
        gate.open()
        seen.append(turn.peer.take_rest())
        turn.close()

    origin.script(talk)
    async with forwarding(origin.url) as client:
        exchange = opened(client)
        await switched(exchange)
        await trio.to_thread.run_sync(gate.wait)
        assert (await read(exchange)).body == b""
        await exchange.send_data(b"still heard", end=True)
        await trio.to_thread.run_sync(origin.check)
    assert seen == [b"still heard"]


async def test_large_amounts_both_ways(origin: Origin) -> None:
    size = 3_000_000

    def mirror(turn: Turn) -> None:
        turn.send(SWITCH)
        left = size
        while left:
            data = turn.peer.take(min(left, 50_000))
            turn.send(data)
            left -= len(data)
        turn.close()

    origin.script(mirror)
    payload = bytes(range(250)) * (size // 250)
    async with forwarding(origin.url) as client:
        exchange = opened(client)
        await switched(exchange)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: exchange.send_data(payload, end=True))
            assert (await read(exchange)).body == payload


async def test_a_refused_upgrade_is_an_ordinary_answer(origin: Origin) -> None:
    origin.script(reply(response(b"no")), ok)
    async with forwarding(origin.url) as client:
        exchange = opened(client)
        assert (await read(exchange)).body == b"no"
        with contextlib.suppress(ExchangeReset):  # the client may have left it at that
            exchange.send_end()
        assert (await read(client.opener.open(ROUTE, request(b"GET"), end=True))).body == b"ok"
    assert connections(origin) == 1


async def test_an_upgrade_with_a_body(origin: Origin) -> None:
    """Sent without a mark between the body and what follows it, as the wire has none."""

    def talk(turn: Turn) -> None:
        turn.read()
        turn.send(SWITCH)
        turn.send(turn.peer.take_rest())
        turn.close()

    origin.script(talk)
    headers = [*ASK, (b"Content-Length", b"4")]
    async with forwarding(origin.url) as client:
        exchange = client.opener.open(ROUTE, request(headers=headers), body=b"body", end=False)
        await switched(exchange)
        await exchange.send_data(b"raw", end=True)
        assert (await read(exchange)).body == b"raw"
    assert origin.received[0].body == b"body"


async def test_a_local_server_that_dies_after_the_upgrade(origin: Origin) -> None:
    def die(turn: Turn) -> None:
        turn.send(SWITCH)
        turn.peer.take(1)
        turn.peer.reset()

    origin.script(die)
    async with forwarding(origin.url) as client:
        exchange = opened(client)
        await switched(exchange)
        await exchange.send_data(b"x")
        with pytest.raises(ExchangeReset) as caught:
            await read(exchange)
    assert caught.value.code == ResetCode.LOCAL_FAILED
    assert "closed the connection in the middle of its response" in client.records[0].error


async def test_a_sender_that_vanishes_after_the_upgrade(origin: Origin) -> None:
    gate = Gate("local connection closed")

    def wait(turn: Turn) -> None:
        turn.send(SWITCH)
        assert turn.peer.at_end()
        gate.open()

    origin.script(wait)
    async with forwarding(origin.url) as client:
        exchange = opened(client)
        await switched(exchange)
        exchange.reset(ResetCode.CANCELLED)
        await trio.to_thread.run_sync(gate.wait)
    assert client.records[0].error == "the sender did not wait for the answer"
