"""Shedding on real listening sockets: who waits too long in the queue is told when to come back."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio

from tests.support.deadlines import DEADLINE
from whook.chassis.drain import Drain
from whook.chassis.listen import bound_port, open_listeners
from whook.chassis.shedding import BURST, Shedding, waiting
from whook.chassis.tcp import Peer, TcpStats, serve_tcp

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how many wait")

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


def crowd(stack: ExitStack, port: int, count: int) -> list[socket.socket]:
    """Connect so many and send a request on each; connect(2) returns once they are in the queue."""
    found = [socket.create_connection(("127.0.0.1", port), DEADLINE) for _ in range(count)]
    for connection in found:
        stack.enter_context(connection)
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    return found


@asynccontextmanager
async def listening() -> AsyncIterator[trio.SocketListener]:
    [listener] = await open_listeners("127.0.0.1:0")
    async with listener:
        yield listener


async def test_the_queue_is_counted() -> None:
    with ExitStack() as stack:
        async with listening() as listener:
            assert waiting(listener.socket) == 0
            crowd(stack, bound_port([listener]), 7)
            assert waiting(listener.socket) == 7


async def test_a_socket_that_is_not_tcp_has_nobody_waiting() -> None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        assert waiting(ours) == 0


async def test_those_beyond_the_bound_get_the_answer_whole_and_the_others_stay() -> None:
    shedding = Shedding(4, lambda: BUSY)
    with ExitStack() as stack:
        async with listening() as listener:
            connections = crowd(stack, bound_port([listener]), 10)
            shedding.relieve(listener.socket)
            assert (shedding.turned_away, waiting(listener.socket)) == (6, 4)
            for connection in connections[:6]:  # who waited longest
                assert connection.recv(4096) == BUSY
                assert connection.recv(4096) == b""  # an orderly end, not a reset
            shedding.relieve(listener.socket)
            assert shedding.turned_away == 6
            await (await listener.accept()).aclose()  # it is as it was, for those who wait


async def test_one_call_turns_no_more_away_than_is_worth_one_handshake() -> None:
    shedding = Shedding(0, lambda: BUSY)
    with ExitStack() as stack:
        async with listening() as listener:
            crowd(stack, bound_port([listener]), BURST + 3)
            shedding.relieve(listener.socket)
            assert waiting(listener.socket) == 3


async def test_whoever_is_gone_already_hurts_nobody() -> None:
    shedding = Shedding(0, lambda: BUSY)
    with ExitStack() as stack:
        async with listening() as listener:
            [gone, there] = crowd(stack, bound_port([listener]), 2)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            gone.close()  # with a reset
            shedding.relieve(listener.socket)
            assert there.recv(4096) == BUSY


async def test_a_server_turns_away_whom_it_has_no_time_for() -> None:
    """Twenty have come before the server has accepted the first one."""
    stats, drain, shedding = TcpStats(), Drain(1.0), Shedding(5, lambda: BUSY)
    served = trio.Event()

    async def handler(stream: trio.SocketStream, peer: Peer) -> None:
        await stream.receive_some()
        await stream.send_all(b"served")
        served.set()

    with ExitStack() as stack, trio.fail_after(DEADLINE):
        [listener] = await open_listeners("127.0.0.1:0")
        connections = crowd(stack, bound_port([listener]), 20)
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await serve_tcp(handler, [listener], name="test", drain=drain, stats=stats, shedding=shedding)

            nursery.start_soon(serve)
            await served.wait()
            answers = [await trio.to_thread.run_sync(connection.recv, 4096) for connection in connections]
            drain.begin("test ends")
    assert answers.count(BUSY) == shedding.turned_away == 14  # one is accepted, five may wait
    assert answers.count(b"served") == stats.accepted == 6
