"""Draining: what runs finishes, what is idle closes, what is new is refused, and it always ends."""

from __future__ import annotations

import json
import os
import socket

import pytest
import trio

from tests.support.async_http import get, request
from tests.support.conductor import Rig, answer, head, open_conductor, read_body
from tests.support.deadlines import DEADLINE
from whook.link import Exchange

LAST_WAIT = 0.3
"""Seconds, instead of the conductor's own."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let idle connections not hold up the tests."""
    monkeypatch.setattr("whook_conductor.sender.LAST_WAIT", LAST_WAIT)


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


async def test_a_request_that_comes_now_is_the_last_on_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("whook_conductor.sender.LAST_WAIT", DEADLINE)
    async with open_conductor() as rig, rig.client() as begun, rig.client() as new, rig.client() as used:
        await used.send(get())
        assert (await used.read_response()).values(b"connection") == []
        await begun.send(b"GET / HTTP/1.1\r\nHost: shop.local")
        await trio.testing.wait_all_tasks_blocked(0.01)
        rig.drain.begin("test")
        await begun.send(b"host\r\n\r\n")
        await new.send(get() + get("/second"))
        await used.send(get())
        for client in (begun, new, used):
            response = await client.read_response()
            assert (response.status, response.value(b"connection")) == (200, b"close")
            assert await client.ending() == "end"
        await over(rig)


async def test_one_that_comes_too_late_to_be_finished_is_503() -> None:
    async with open_conductor(grace=3 * DEADLINE) as rig, rig.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: shop.local")
        await trio.testing.wait_all_tasks_blocked(0.01)
        rig.drain.begin("test")
        rig.drain.deadline = trio.current_time() + DEADLINE  # as if two thirds of it had passed
        await client.send(b"host\r\n\r\n")
        response = await client.read_response()
        assert (response.status, response.value(b"connection")) == (503, b"close")
        assert json.loads(response.body)["type"] == "urn:whook:problem:draining"
        assert response.values(b"retry-after")
        assert await client.ending() == "end"
        await over(rig)


async def test_kept_connections_are_told_before_they_are_closed() -> None:
    async with open_conductor() as rig, rig.client() as kept, rig.client() as silent:
        await silent.send(get())
        assert (await silent.read_response()).values(b"connection") == []
        rig.drain.announce()
        await kept.send(get())
        assert (await kept.read_response()).value(b"connection") == b"close"
        assert await kept.ending() == "end"
        await silent.send(get())
        assert (await silent.read_response()).value(b"connection") == b"close"
        assert await silent.ending() == "end"


async def test_a_supervisors_socket_keeps_what_comes_for_the_next_conductor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a socket unit does it (sd_listen_fds(3)): here the supervisor is this process, too."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        monkeypatch.setattr("whook.chassis.activation._FIRST", sock.fileno())
        for name, value in {"FDS": "1", "FDNAMES": "ingress", "PID": str(os.getpid())}.items():
            monkeypatch.setenv(f"LISTEN_{name}", value)
        async with open_conductor(listen="systemd:ingress") as first, first.client() as before:
            await before.send(b"GET / HTTP/1.1\r\nHost: shop.local")
            await trio.testing.wait_all_tasks_blocked(0.01)
            first.drain.begin("test")
            await trio.testing.wait_all_tasks_blocked()
            async with first.client() as after:
                await after.send(get())
                await before.send(b"host\r\n\r\n")
                assert (await before.read_response()).status == 200
                await over(first)
                with trio.move_on_after(0.02) as waiting:
                    await after.read_response()
                assert waiting.cancelled_caught
                async with open_conductor(listen="systemd:ingress"):
                    assert (await after.read_response()).status == 200


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


async def test_what_comes_as_an_idle_connection_is_given_up_is_served() -> None:
    """Nobody told the senders, and for both the end and the request fall into the same turn of the loop."""
    async with open_conductor() as rig, rig.client() as first, rig.client() as second:
        for client in (first, second):
            await client.send(get())
            assert (await client.read_response()).status == 200
        await trio.testing.wait_all_tasks_blocked(0.01)
        await trio.sleep(LAST_WAIT)  # so that the drain gives them up at once
        await first.send(get())
        rig.drain.begin("test")
        await second.send(get())
        for client in (first, second):
            response = await client.read_response()
            assert (response.status, response.value(b"connection")) == (200, b"close")
