"""Whatever is cancelled, and whenever: both tables are empty afterwards, and the link still works."""

from __future__ import annotations

import pytest
import trio

from tests.support.cancelling import cancelled_at_every_step
from tests.support.links import KINDS, echo, in_memory, joined, read, tcp_pair, until
from tests.support.wire_talk import ROUTE, request
from whook.link import Answerer, Exchange, ExchangeReset, Link, LinkClosed, Opener, StreamTransport
from whook.wire import INITIAL_CREDIT, Frame, Response

BODY = bytes(INITIAL_CREDIT + 100_000)  #: needs credit that comes while it is sent


@pytest.mark.parametrize("kind", KINDS)
async def test_the_conductors_task(kind: str) -> None:
    async with joined(echo, kind) as ends:

        async def exchange() -> None:
            with ends.open(end=False) as exchange:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lambda: exchange.send_data(BODY, end=True))
                    assert (await read(exchange))[1] == BODY
            assert exchange.finished

        assert await cancelled_at_every_step(exchange) > 10
        await ends.settled()
        assert await read(ends.open(b"still there")) == ([200], b"still there", [])


async def test_the_clients_handler() -> None:
    runs: list[int] = []

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == b"/whole":
            await echo(exchange)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo, exchange)
            nursery.start_soon(trio.lowlevel.checkpoint)

    async with joined(handler) as ends:

        async def exchange() -> None:
            with ends.open(end=False) as exchange:
                try:
                    await exchange.send_data(BODY, end=True)
                    await read(exchange)
                except ExchangeReset:
                    return

        runs.append(await cancelled_at_every_step(exchange))
        await ends.settled()
        assert await read(ends.open(b"still there", target=b"/whole")) == ([200], b"still there", [])
    assert runs[0] > 10


@pytest.mark.parametrize("which", ["opener", "answerer"])
async def test_a_whole_end(which: str) -> None:
    async def both() -> None:
        near, far = in_memory()
        opener, answerer = Opener(Link(near, name="near")), Answerer(Link(far, name="far"), echo)
        ended = trio.Event()

        async def rest() -> None:
            """The end that is not cancelled, and a task that uses the other."""
            await (answerer if which == "opener" else opener).run()
            ended.set()

        async def use() -> None:
            for _ in range(2):
                try:
                    exchange = opener.open(ROUTE, request(), end=False)
                    await exchange.send_data(BODY, end=True)
                    await read(exchange)
                except (ExchangeReset, LinkClosed):
                    return
            opener.link.finish("done")
            answerer.link.finish("done")

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rest)
                nursery.start_soon(use)
                await (opener if which == "opener" else answerer).run()
        finally:
            tables.append((opener.active, answerer.active, answerer.running))
            assert opener.link.closed
            assert answerer.link.closed

    tables: list[tuple[int, int, int]] = []
    assert await cancelled_at_every_step(both) > 10
    assert set(tables) == {(0, 0, 0)}


async def test_cancelled_senders_never_tear_a_frame() -> None:
    """Tasks are cancelled while the socket is full; what arrives is frames, and whole pieces of bodies."""
    received: list[Frame] = []
    async with tcp_pair() as (near, far):
        near.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
        opener = Opener(Link(StreamTransport(near), name="near"))
        reading = Link(StreamTransport(far), name="far")

        async def send(scope: trio.CancelScope, number: int) -> None:
            with scope, opener.open(ROUTE, request(b"/%d" % number), end=False) as exchange:
                while True:
                    await exchange.send_data(bytes([number]) * 30_000)
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(opener.run)
            scopes = [trio.CancelScope() for _ in range(20)]
            for number, scope in enumerate(scopes):
                nursery.start_soon(send, scope, number)
            await until(lambda: opener.link.pending > 2 * 65_536)
            for scope in scopes[::2]:
                scope.cancel()
            nursery.start_soon(reading.run, received.extend)
            await until(lambda: len(received) > 60)
            for scope in scopes:
                scope.cancel()
            await until(lambda: not opener.active)
            opener.link.finish("over")
            await until(lambda: reading.closed)
    assert reading.close_reason == "the peer closed the connection"
    bodies = [payload for kind, _, _, payload in received if kind == 4]
    assert bodies
    assert all(payload == payload[:1] * len(payload) for payload in bodies)
    assert sum(kind == 6 for kind, *_ in received) == 20


async def test_handlers_end_with_the_link() -> None:
    ended: list[int] = []

    async def handler(exchange: Exchange) -> None:
        exchange.send_head(Response(200, b"", []))
        try:
            await trio.sleep_forever()
        finally:
            ended.append(exchange.id)

    async with joined(handler) as ends:
        for _ in range(3):
            ends.open()
        await until(lambda: ends.answerer.running == 3)
        ends.opener.link.close("cut")
        await until(lambda: ends.answerer.link.closed)
    assert sorted(ended) == [1, 2, 3]
