"""Senders and far ends that behave in every way at once: nothing is left, nothing unexpected is raised."""

from __future__ import annotations

import contextlib
import random

import pytest
import trio

from tests.support.async_http import Client, Lost, get, post, request
from tests.support.conductor import Rig, echo, head, open_conductor, read_body
from whook.chassis.metrics import REGISTRY
from whook.link import Exchange
from whook.wire import ResetCode, Response

SENDERS = 40
ROUNDS = 8


def far_end(rng: random.Random) -> object:
    """Return a handler that draws what it does from `rng`."""

    async def handler(exchange: Exchange) -> None:
        match rng.randrange(8):
            case 0 | 1:
                await echo(exchange)
            case 2:
                exchange.reset(rng.choice(list(ResetCode)))
            case 3:
                head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
                for _ in range(rng.randrange(4)):
                    await exchange.send_data(b"x" * rng.randrange(1, 70_000))
                    await trio.lowlevel.checkpoint()
                exchange.send_end([(b"X-Sum", b"1")])
            case 4:
                head(exchange, 200, (b"Content-Length", b"5"))
                await exchange.send_data(b"ab")  # and leave: a reset in the middle of the body
            case 5:
                exchange.send_head(Response(103, b"Early Hints", []))
                head(exchange, 403, (b"Content-Length", b"0"), end=True)
                await read_body(exchange)
            case 6:
                exchange.send_head(Response(200, b"OK", [(b"Content-Length", b"1")]), end=True)
            case _:
                await read_body(exchange)
                head(exchange, 200)
                await exchange.send_data(b"until the end", end=True)

    return handler


async def talk(client: Client, rng: random.Random) -> None:
    """One thing that a sender may do."""
    body = b"b" * rng.choice([0, 1, 5_000, 400_000])
    match rng.randrange(7):
        case 0:
            await client.send(post(body))
            await client.read_response()
        case 1:
            await client.send(get() * rng.randrange(1, 6))
            await client.read_response()
        case 2:
            await client.send(request("POST", "/", "Content-Length: 400000") + body[:1000])
            await trio.sleep(rng.random() / 100)
            client.reset()
        case 3:
            await client.send(post(body))
            await client.end()
            await client.ending()
        case 4:
            await client.send(request("POST", "/", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
            await trio.sleep(rng.random() / 100)
            await client.send(rng.choice([b"0\r\n\r\n", b"zz\r\n", b"0\r\nT: 1\r\n\r\n"]))
            await client.read_response()
        case 5:
            await client.send(get("/", "Connection: Upgrade", "Upgrade: x") + b"raw" * rng.randrange(3))
            await client.read_response()
        case _:
            await client.send(rng.choice([b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"GET / HT", b"\x16\x03"]))
            await trio.sleep(rng.random() / 100)
            client.reset()


async def sender(rig: Rig, rng: random.Random) -> None:
    for _ in range(ROUNDS):
        async with rig.client() as client:
            gone = (Lost, trio.BrokenResourceError, trio.ClosedResourceError)
            with contextlib.suppress(*gone), trio.move_on_after(5):
                for _ in range(3):
                    await talk(client, rng)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_nothing_is_left(seed: int) -> None:
    rng = random.Random(seed)
    timing = {"request_deadline": 0.5, "linger_timeout": 0.1, "header_timeout": 0.5, "write_timeout": 0.5}
    async with open_conductor(far_end(rng), grace=5, **timing) as rig:  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            for _ in range(SENDERS):
                nursery.start_soon(sender, rig, random.Random(rng.random()))
        await rig.settled()
        failed = REGISTRY.get_sample_value(
            "whook_connections_errors_total", {"listener": "ingress", "cause": "failed"}
        )
        assert failed == 0
        assert (await rig.ask(get(host="ghost.localhost"))).status == 404
        rig.drain.begin("test")
        with trio.fail_after(30):
            await rig.ended.wait()
