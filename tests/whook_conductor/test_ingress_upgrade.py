"""Upgrade: raw bytes both ways once it is accepted, HTTP as before when it is not."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.async_http import Client, get, request
from tests.support.conductor import answer, head, open_conductor, read_body
from whook.link import Data, Exchange
from whook.wire import Request, ResetCode, Response

ASK = get("/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: abc")
SWITCH = Response(101, b"Switching Protocols", [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")])


async def accept(exchange: Exchange) -> None:
    """Echo raw bytes in upper case until the sender ends its direction, then end ours."""
    exchange.send_head(SWITCH)
    while True:
        item = await exchange.receive()
        if isinstance(item, Data):
            await exchange.send_data(item.data.upper())
        if item.ended:
            exchange.send_end()
            return


async def read_switch(client: Client) -> None:
    response = await client.read_response()
    assert response.start_line == b"HTTP/1.1 101 Switching Protocols"
    assert response.lines == [b"Upgrade: websocket", b"Connection: Upgrade"]


async def test_an_accepted_upgrade_carries_raw_bytes_and_ends_side_by_side() -> None:
    seen: list[Request] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await accept(exchange)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(ASK + b"early")
        await read_switch(client)
        assert await client.take(5) == b"EARLY"
        await client.send(b"\x00GET / HTTP/1.1\r\n\r\n")
        assert await client.take(19) == b"\x00GET / HTTP/1.1\r\n\r\n"
        await client.send(b"last")
        await client.end()
        assert await client.ending() == "end"
        assert client.buffer == b"LAST"
        outcome = await rig.outcome()
        assert (outcome.result, outcome.status, outcome.received, outcome.sent) == ("upgraded", 101, 28, 28)
        await rig.settled()
    assert (b"Connection", b"Upgrade") in seen[0].headers
    assert (b"Upgrade", b"websocket") in seen[0].headers


async def test_the_far_end_may_end_its_side_first() -> None:
    got: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        exchange.send_head(SWITCH)
        await exchange.send_data(b"bye")
        exchange.send_end()
        while True:
            item = await exchange.receive()
            if isinstance(item, Data):
                got.append(item.data)
            if item.ended:
                return

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(ASK)
        await read_switch(client)
        assert await client.ending() == "end"
        assert client.buffer == b"bye"
        await client.send(b"still here")
        await client.end()
        assert (await rig.outcome()).result == "upgraded"
        await rig.settled()
    assert b"".join(got) == b"still here"


async def test_a_reset_of_an_upgraded_exchange_resets_the_sender() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.send_head(SWITCH)
        await exchange.send_data(b"x")
        await exchange.receive()
        exchange.reset(ResetCode.TUNNEL_LOST)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(ASK)
        await read_switch(client)
        await client.take(1)
        await client.send(b"y")
        assert await client.ending() == "reset"
        await rig.settled()


async def test_a_sender_that_resets_an_upgraded_connection_resets_the_exchange() -> None:
    async with open_conductor(accept) as rig:
        async with rig.client() as client:
            await client.send(ASK)
            await read_switch(client)
            client.reset()
        assert (await rig.outcome()).slug == "sender-gone"
        await rig.settled()


async def test_one_open_direction_is_not_kept_in_silence_for_ever() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.send_head(SWITCH)
        exchange.send_end()
        await trio.sleep_forever()

    async with open_conductor(handler, half_closed_timeout=0.05) as rig, rig.client() as client:
        await client.send(ASK)
        await read_switch(client)
        assert (await rig.outcome()).result == "aborted"
        await rig.settled()


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_upgrade_that_is_not_accepted_leaves_http(streamed: bool) -> None:
    async def handler(exchange: Exchange) -> None:
        if streamed:
            head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
            await exchange.send_data(b"o")
            await trio.testing.wait_all_tasks_blocked()
            await exchange.send_data(b"k", end=True)
        else:
            await answer(exchange)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(ASK + get("/next"))
        for _ in range(2):
            response = await client.read_response()
            assert (response.status, response.body) == (200, b"ok")
        await client.send(ASK)
        assert (await client.read_response()).status == 200
        await rig.settled()


async def test_an_upgrade_with_a_body_is_asked_for_without_it() -> None:
    seen: list[Request] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request)
        body, _ = await read_body(exchange)
        await answer(exchange, body)

    async with open_conductor(handler) as rig, rig.client() as client:
        lines = ("Connection: Upgrade", "Upgrade: h2c", "Content-Length: 3")
        await client.send(request("POST", "/", *lines) + b"abc" + get())
        assert (await client.read_response()).body == b"abc"
        assert (await client.read_response()).body == b""
    assert not any(name.lower() == b"upgrade" for name, _ in seen[0].headers)


async def test_a_refused_upgrade_leaves_http() -> None:
    async with open_conductor() as rig, rig.client() as client:
        await client.send(get("/", "Connection: upgrade", "Upgrade: websocket", host="other.localhost"))
        assert (await client.read_response()).status == 404
        await client.send(get())
        assert (await client.read_response()).status == 200
