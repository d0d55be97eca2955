"""Connections that a proxy introduces, on real sockets: who is believed, counted and refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from whook.chassis.drain import Drain
from whook.chassis.introduction import ProxyIntroduction
from whook.chassis.listen import bound_port, open_listeners
from whook.chassis.proxy_protocol import SIGNATURE
from whook.chassis.tcp import Peer, TcpLimits, TcpStats, serve_tcp

LIMIT = 10.0
HEADER = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n"


class Front:
    """A listener behind a proxy at 127.0.0.1; each connection is answered with whom it is from."""

    def __init__(self) -> None:
        self.port = 0
        self.stats = TcpStats()
        self.peers: list[Peer] = []

    async def handle(self, stream: trio.SocketStream, peer: Peer) -> None:
        self.peers.append(peer)
        async for data in stream:
            await stream.send_all(f"{peer.host}:{peer.port} ".encode() + data)

    async def connect(self, source: str = "127.0.0.1") -> trio.SocketStream:
        sock = trio.socket.socket()
        await sock.bind((source, 0))
        await sock.connect(("127.0.0.1", self.port))
        return trio.SocketStream(sock)


@asynccontextmanager
async def fronted(*, per_address: int | None = None, timeout: float = LIMIT) -> AsyncIterator[Front]:
    listeners = await open_listeners("127.0.0.1:0")
    front, drain = Front(), Drain(LIMIT)
    front.port = bound_port(listeners)

    async def run(task_status: trio.TaskStatus[object]) -> None:
        await serve_tcp(
            front.handle,
            listeners,
            name="test",
            drain=drain,
            limits=TcpLimits(per_address=per_address),
            refusal=b"too many",
            stats=front.stats,
            introduction=ProxyIntroduction([ip_network("127.0.0.1/32")], frozenset({1, 2}), timeout),
            task_status=task_status,
        )

    with trio.fail_after(2 * LIMIT):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield front
            drain.begin("test ends")


async def receive(stream: trio.SocketStream, size: int) -> bytes:
    got = b""
    while len(got) < size:
        more = await stream.receive_some()
        assert more, got
        got += more
    return got


async def ends(stream: trio.SocketStream) -> bytes:
    """Give what comes until the other side closes, by FIN or by reset."""
    got = b""
    try:
        async for data in stream:
            got += data
    except trio.BrokenResourceError:
        pass
    return got


async def test_the_sender_is_whom_the_proxy_names() -> None:
    async with fronted() as front, await front.connect() as client:
        await client.send_all(HEADER + b"hello")
        assert await receive(client, 22) == b"203.0.113.9:4711 hello"
        assert front.peers == [Peer("203.0.113.9", 4711)]


async def test_a_header_in_pieces_leaves_what_follows() -> None:
    async with fronted() as front, await front.connect() as client:
        client.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        for at in range(0, len(HEADER), 9):
            await client.send_all(HEADER[at : at + 9])
            await trio.testing.wait_all_tasks_blocked(0.001)
        await client.send_all(b"after")
        assert await receive(client, 22) == b"203.0.113.9:4711 after"


async def test_a_proxy_for_itself() -> None:
    async with fronted() as front, await front.connect() as client:
        await client.send_all(SIGNATURE + b"\x20\x00\x00\x00" + b"hi")
        host, port = client.socket.getsockname()
        assert await receive(client, len(f"{host}:{port} hi")) == f"{host}:{port} hi".encode()


@pytest.mark.parametrize(
    ("source", "sent", "reason"),
    [
        ("127.0.0.2", HEADER + b"GET", "it is no trusted proxy's"),
        ("127.0.0.1", b"GET / HTTP/1.1\r\n\r\n", "it does not begin with a header"),
        ("127.0.0.1", HEADER.replace(b"4711", b"99999"), "a port is malformed"),
    ],
)
async def test_who_is_not_introduced_is_refused(source: str, sent: bytes, reason: str) -> None:
    with capture_logs() as logs:
        async with fronted() as front, await front.connect(source) as client:
            await client.send_all(sent)
            assert await ends(client) == b""
            assert front.peers == []
    assert front.stats.refused["introduction"] == 1
    (line,) = [entry for entry in logs if entry["event"] == "connection refused"]
    assert (line["limit"], line["peer"], line["reason"]) == ("introduction", source, reason)


async def test_a_header_that_does_not_come_ends_the_connection() -> None:
    async with fronted(timeout=0.05) as front, await front.connect() as client:
        await client.send_all(HEADER[:20])
        assert await ends(client) == b""
    assert front.stats.refused["introduction"] == 1


async def test_one_that_closes_before_its_header_is_gone() -> None:
    async with fronted() as front:
        async with await front.connect() as client:
            await client.send_all(HEADER[:20])
            await client.send_eof()
            assert await ends(client) == b""
        assert (front.stats.gone, front.stats.refused["introduction"]) == (1, 0)


async def test_the_limit_counts_senders_and_not_the_proxy() -> None:
    async with fronted(per_address=2) as front:
        held = [await front.connect() for _ in range(5)]
        for number, client in enumerate(held):
            sender = b"203.0.113.%d" % (9 if number < 3 else number)
            await client.send_all(HEADER.replace(b"203.0.113.9", sender) + b"x")
            answer = await receive(client, 8)
            assert answer[:8] == (b"too many" if number == 2 else b"203.0.11")
        await held[0].aclose()
        while True:  # until its place is free again
            async with await front.connect() as another:
                await another.send_all(HEADER + b"x")
                if (await receive(another, 8))[:8] == b"203.0.11":
                    break
        for client in held[1:]:
            await client.aclose()
    assert front.stats.open == 0
