"""Draining: what runs finishes, what is idle closes, what is new is refused, and it always ends."""

from __future__ import annotations

import json

import pytest
import trio

from tests.support.async_http import get, request
from tests.support.conductor import Rig, answer, head, open_conductor, read_body
from tests.support.deadlines import DEADLINE
from whook.link import Exchange


async def over(rig: Rig) -> None:
    with trio.fail_after(DEADLINE):
        await rig.ended.wait()


async def test_an_idle_conductor_ends_and_closes_idle_connections() -> None:
    async with open_conductor() as rig, rig.client() as used, rig.client() as fresh:
        await used.send(get())
        assert (await used.read_response()).status == 200
        await trio.testing.wait_all_tasks_blocked(0.01)
        rig.drain.begin("test")
        assert await used.ending() == "end"
        assert await fresh.ending() == "end"
        await over(rig)
        with pytest.raises(OSError, match="all attempts"):
            await trio.open_tcp_stream("127.0.0.1", rig.ports.ingress_port)


async def test_a_request_under_way_finishes_and_says_that_the_connection_ends() -> None:
    opened, go_on = trio.Event(), trio.Event()

    async def handler(exchange: Exchange) -> None:
        opened.set()
        await go_on.wait()
        await answer(exchange, b"done")

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(get() + get("/second"))
        await opened.wait()
        rig.drain.begin("test")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not rig.ended.is_set()
        go_on.set()
        response = await client.read_response()
        assert (response.body, response.value(b"connection")) == (b"done", b"close")
        assert await client.ending() == "end"
        await over(rig)


async def test_an_upload_and_a_stream_under_way_finish() -> None:
    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
        await exchange.send_data(b"begun")
        body, _ = await read_body(exchange)
        await exchange.send_data(body, end=True)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(request("POST", "/", "Content-Length: 6"), b"abc")
        await client.read_head()
        assert await client.read_chunk() == b"begun"
        rig.drain.begin("test")
        await client.send(b"def")
        assert await client.read_chunk() == b"abcdef"
        assert await client.read_chunk() == b""
        await client.read_trailers()
        assert await client.ending() == "end"
        await over(rig)


async def test_a_request_that_comes_now_is_503() -> None:
    async with open_conductor() as rig, rig.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: shop.local")
        await trio.testing.wait_all_tasks_blocked(0.01)
        rig.drain.begin("test")
        await client.send(b"host\r\n\r\n")
        response = await client.read_response()
        assert (response.status, response.value(b"connection")) == (503, b"close")
        assert json.loads(response.body)["type"] == "urn:whook:problem:draining"
        assert response.values(b"retry-after")
        assert await client.ending() == "end"
        await over(rig)


async def test_senders_and_far_ends_that_stall_do_not_keep_it() -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == b"/silent":
            await trio.sleep_forever()
        head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
        while True:
            await exchange.send_data(b"x" * 65_536)

    async with open_conductor(handler, grace=0.2) as rig, rig.client() as deaf, rig.client() as patient:
        await deaf.send(get())
        await patient.send(get("/silent"))
        await deaf.fill()
        await trio.testing.wait_all_tasks_blocked(0.05)
        rig.drain.begin("test")
        await over(rig)
        assert await deaf.ending() == "reset"
        assert await patient.ending() == "end"
        outcomes = [await rig.outcome() for _ in range(2)]
        assert {outcome.slug for outcome in outcomes} == {"stopped"}
