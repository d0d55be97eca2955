"""Deadlines of every phase, and that slow connections delay nobody.

The timeouts are real but short, and no test measures one: it waits for what must happen when one fires.
"""

from __future__ import annotations

import contextlib
import json

import pytest
import trio
import trio.testing

from tests.support.async_http import Client, get, post, request
from tests.support.conductor import REJECT, answer, head, open_conductor, read_body
from whook.link import Exchange
from whook.wire import Response

SOON = 0.05
"""Seconds: short for a test, long for a machine."""


def slug(body: bytes) -> str:
    return str(json.loads(body)["type"]).removeprefix("urn:whook:problem:")


async def never(exchange: Exchange) -> None:
    """Read the request and say nothing."""
    await read_body(exchange)
    await trio.sleep_forever()


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with open_conductor(idle_timeout=SOON, header_timeout=SOON) as rig:
        async with rig.client() as client:
            assert await client.ending() == "end"
            assert not client.buffer
        async with rig.client() as client:
            await client.send(get())
            assert (await client.read_response()).status == 200
            assert await client.ending() == "end"
            assert not client.buffer


async def test_blank_lines_do_not_keep_a_connection() -> None:
    async def drip(client: Client) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await client.stream.send_all(b"\r\n")
                await trio.sleep(SOON / 5)

    async with (
        open_conductor(idle_timeout=SOON, header_timeout=SOON) as rig,
        rig.client() as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(drip, client)
        assert await client.ending() in {"end", "reset"}
        nursery.cancel_scope.cancel()


async def test_a_head_that_does_not_end_is_408() -> None:
    async with open_conductor(header_timeout=SOON) as rig, rig.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: shop")
        response = await client.read_response()
        assert (response.status, slug(response.body)) == (408, "request-timeout")
        assert await client.ending() == "end"


async def test_a_body_that_stops_coming_is_408() -> None:
    async with open_conductor(never, policy=REJECT, request_deadline=SOON) as rig, rig.client() as client:
        await client.send(request("POST", "/", "Content-Length: 6"), b"abc")
        response = await client.read_response()
        assert (response.status, slug(response.body)) == (408, "request-timeout")
        assert (await rig.outcome()).slug == "request-timeout"
        await rig.settled()


@pytest.mark.parametrize("data", [get(), post(b"x" * 1_000_000)], ids=["small", "large"])
async def test_an_answer_that_does_not_come_is_504(data: bytes) -> None:
    async with open_conductor(never, policy=REJECT, request_deadline=SOON) as rig, rig.client() as client:
        await client.send(data)
        response = await client.read_response()
        assert (response.status, slug(response.body)) == (504, "deadline-exceeded")
        assert await client.ending() == "end"
        outcome = await rig.outcome()
        assert (outcome.result, outcome.status) == ("refused", 504)
        await rig.settled()


async def test_a_far_end_that_takes_no_body_is_504() -> None:
    async def handler(_: Exchange) -> None:
        await trio.sleep_forever()

    async with open_conductor(handler, policy=REJECT, request_deadline=SOON) as rig, rig.client() as client:
        async with trio.open_nursery() as nursery:

            async def upload() -> None:
                try:
                    await client.send(post(b"x" * 10_000_000))
                except trio.BrokenResourceError:
                    return

            nursery.start_soon(upload)
            assert (await client.read_response()).status == 504
            await client.ending()
        await rig.settled()


async def test_a_sender_that_waits_for_a_100_is_not_the_one_who_is_late() -> None:
    async with open_conductor(never, policy=REJECT, request_deadline=SOON) as rig, rig.client() as client:
        await client.send(request("POST", "/", "Content-Length: 3", "Expect: 100-continue"))
        assert (await client.read_response()).status == 504


async def test_a_slow_upload_is_given_time_as_long_as_it_goes_on() -> None:
    async with open_conductor(request_deadline=0.5) as rig, rig.client() as client:
        await client.send(request("POST", "/", "Content-Length: 20"))
        for _ in range(20):
            await client.send(b"x")
            await trio.sleep(0.05)  # a second in all, twice the deadline
        assert (await client.read_response()).body == b"x" * 20


async def test_a_sender_that_takes_nothing_of_its_response_is_cut_off() -> None:
    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
        while True:
            await exchange.send_data(b"x" * 65_536)

    async with open_conductor(handler, write_timeout=SOON) as rig, rig.client() as client:
        await client.send(get())
        outcome = await rig.outcome()
        assert (outcome.result, outcome.slug) == ("aborted", "timeout")
        await rig.settled()
        assert await client.ending() == "reset"


async def test_the_rest_of_a_request_is_not_waited_for_without_end() -> None:
    async def handler(exchange: Exchange) -> None:
        await answer(exchange, b"no", 403)

    async with open_conductor(handler, linger_timeout=SOON) as rig, rig.client() as client:
        await client.send(request("POST", "/", "Content-Length: 6"), b"abc")
        assert (await client.read_response()).status == 403
        assert await client.ending() in {"end", "reset"}
        assert (await rig.outcome()).result == "answered"
        await rig.settled()


async def test_informational_responses_do_not_put_the_deadline_off() -> None:
    async def handler(exchange: Exchange) -> None:
        while True:
            exchange.send_head(Response(102, b"Processing", []))
            await trio.sleep(SOON / 10)

    async with open_conductor(handler, request_deadline=SOON) as rig, rig.client() as client:
        await client.send(get())
        while (response := await client.read_response()).status == 102:
            pass
        assert response.status == 504
        await rig.settled()


async def test_slow_connections_delay_nobody() -> None:
    slow = 200
    async with open_conductor(max_connections_per_address=None) as rig, trio.open_nursery() as nursery:
        dripping = trio.Event()
        count = 0

        async def loris(part: bytes) -> None:
            nonlocal count
            async with rig.client() as client:
                await client.send(part)
                count += 1
                if count == slow:
                    dripping.set()
                await trio.sleep_forever()

        parts = [
            b"",
            b"GET / HT",
            b"GET / HTTP/1.1\r\nHost: shop",
            request("POST", "/", "Content-Length: 9") + b"x",
        ]
        for number in range(slow):
            nursery.start_soon(loris, parts[number % len(parts)])
        await dripping.wait()
        async with rig.client() as client:
            for _ in range(50):
                await client.send(post(b"quick"))
                assert (await client.read_response()).body == b"quick"
        nursery.cancel_scope.cancel()
