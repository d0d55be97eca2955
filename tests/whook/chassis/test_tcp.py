"""serve_tcp on real sockets: limits, containment, drain, and running out of descriptors."""

import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from whook.chassis import metrics
from whook.chassis.drain import Drain
from whook.chassis.listen import bound_port, open_listeners
from whook.chassis.tcp import Handler, Peer, Refusal, TcpLimits, TcpStats, _identify, serve_tcp

LIMIT = 10.0
"""Seconds after which a test that waits has failed."""


async def echo(stream: trio.SocketStream, peer: Peer) -> None:
    async for data in stream:
        await stream.send_all(data)


class Server:
    """A running server: its port, its counters and its drain."""

    def __init__(self, port: int, drain: Drain) -> None:
        self.port = port
        self.drain = drain
        self.stats = TcpStats()
        self.returned = trio.Event()

    async def connect(self, source: str = "127.0.0.1") -> trio.SocketStream:
        sock = trio.socket.socket()
        try:
            await sock.bind((source, 0))
            await sock.connect(("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        return trio.SocketStream(sock)


@asynccontextmanager
async def serving(
    handler: Handler = echo,
    *,
    limits: TcpLimits | None = None,
    refusal: Refusal = b"",
    grace: float = LIMIT,
) -> AsyncIterator[Server]:
    listeners = await open_listeners("127.0.0.1:0")
    server = Server(bound_port(listeners), Drain(grace))

    async def run(task_status: trio.TaskStatus[object]) -> None:
        await serve_tcp(
            handler,
            listeners,
            name="test",
            drain=server.drain,
            limits=limits,
            refusal=refusal,
            stats=server.stats,
            task_status=task_status,
        )
        server.returned.set()

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield server
            server.drain.begin("test ends")


async def exchange(stream: trio.SocketStream, data: bytes = b"ping") -> None:
    await stream.send_all(data)
    received = b""
    while len(received) < len(data):
        more = await stream.receive_some()
        assert more, "closed early"
        received += more
    assert received == data


async def rest(stream: trio.SocketStream) -> bytes:
    return b"".join([data async for data in stream])


async def test_hands_over_stream_and_peer() -> None:
    peers: list[Peer] = []

    async def handler(stream: trio.SocketStream, peer: Peer) -> None:
        peers.append(peer)
        await echo(stream, peer)

    async with serving(handler) as server, await server.connect("127.0.0.3") as client:
        await exchange(client)
        assert peers == [Peer(*client.socket.getsockname())]
        assert peers[0].host == "127.0.0.3"


async def test_closes_the_stream_after_the_handler() -> None:
    async def handler(stream: trio.SocketStream, peer: Peer) -> None:
        await stream.send_all(b"bye")

    async with serving(handler) as server, await server.connect() as client:
        assert await rest(client) == b"bye"


async def test_one_failing_connection_ends_alone() -> None:
    async def handler(stream: trio.SocketStream, peer: Peer) -> None:
        async for data in stream:
            if data == b"fail":
                raise RuntimeError("boom")
            if data == b"group":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep_forever)
                    raise RuntimeError("boom in a nursery")
            await stream.send_all(data)

    with capture_logs() as logs:
        async with serving(handler) as server, await server.connect() as bystander:
            await exchange(bystander)
            for word in (b"fail", b"group"):
                async with await server.connect() as client:
                    await client.send_all(word)
                    assert await rest(client) == b""
            await exchange(bystander)
            assert server.stats.failed == 2
            assert server.stats.open == 1
    assert [entry["event"] for entry in logs] == ["connection failed"] * 2


async def test_a_peer_that_goes_away_is_not_an_error() -> None:
    gone = trio.Event()

    async def handler(stream: trio.SocketStream, peer: Peer) -> None:
        try:
            await stream.receive_some()
        finally:
            gone.set()

    with capture_logs() as logs:
        async with serving(handler) as server:
            client = await server.connect()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            await client.aclose()  # resets the connection
            await gone.wait()
    assert server.stats.gone == 1
    assert logs == []


async def test_limits_connections_of_one_address() -> None:
    limits = TcpLimits(per_address=2)
    async with serving(limits=limits, refusal=b"too many") as server:
        first, second = await server.connect(), await server.connect()
        await exchange(first)
        await exchange(second)
        async with await server.connect() as third:
            await third.send_all(b"x" * 4096)  # sent, but never read by a handler
            assert await rest(third) == b"too many"
        async with await server.connect("127.0.0.2") as other:
            await exchange(other)
        await first.aclose()
        while server.stats.open > 1:
            await trio.testing.wait_all_tasks_blocked()
        async with await server.connect() as again:
            await exchange(again)
        assert server.stats.refused == {"connections": 0, "per-address": 1}
        await second.aclose()


async def test_limits_connections_altogether_and_asks_for_the_refusal() -> None:
    def refusal(peer: Peer, limit: str) -> bytes:
        return f"{peer.host} {limit}".encode()

    with capture_logs() as logs:
        async with (
            serving(limits=TcpLimits(connections=1), refusal=refusal) as server,
            await server.connect() as first,
        ):
            await exchange(first)
            for source in ("127.0.0.4", "127.0.0.5"):
                async with await server.connect(source) as client:
                    assert await rest(client) == f"{source} connections".encode()
    assert [entry["event"] for entry in logs] == ["connection refused"]  # not one line for each


async def test_a_failing_refusal_is_contained() -> None:
    def refusal(peer: Peer, limit: str) -> bytes:
        raise RuntimeError("boom")

    with capture_logs():
        async with (
            serving(limits=TcpLimits(connections=0), refusal=refusal) as server,
            await server.connect() as client,
        ):
            assert await rest(client) == b""
    assert server.stats.failed == 1


async def test_without_limits() -> None:
    async with serving(limits=TcpLimits(connections=None, per_address=None)) as server:
        clients = [await server.connect() for _ in range(300)]
        for client in clients:
            await exchange(client)
        for client in clients:
            await client.aclose()


async def test_drain_closes_listeners_and_lets_handlers_finish() -> None:
    async with serving() as server, await server.connect() as client:
        await exchange(client)
        server.drain.begin("test")
        refused = False
        while not refused:
            try:
                extra = await server.connect()
            except OSError:
                refused = True
            else:
                await extra.aclose()
        await exchange(client)
        assert not server.returned.is_set()
        await client.send_eof()
        await server.returned.wait()


async def test_drain_still_takes_connections_the_kernel_has_completed() -> None:
    async with serving() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            server.drain.begin("test")  # the server has not run since
            client = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            await exchange(client)


async def test_drain_cancels_what_is_left_at_its_deadline() -> None:
    cancelled = trio.Event()

    async def handler(stream: trio.SocketStream, peer: Peer) -> None:
        await stream.send_all(b"on")
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(handler, grace=0.1) as server, await server.connect() as client:
        await client.receive_some()
        server.drain.begin("test")
        await server.returned.wait()
        assert cancelled.is_set()
        assert server.stats.open == 0


async def test_an_error_while_cancelled_is_contained_too() -> None:
    async def handler(stream: trio.SocketStream, peer: Peer) -> None:
        async def fail_at_the_end() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise RuntimeError("boom")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_at_the_end)
            nursery.start_soon(trio.sleep_forever)
            await stream.send_all(b"on")

    with capture_logs():
        async with serving(handler, grace=0.1) as server, await server.connect() as client:
            await client.receive_some()
            server.drain.begin("test")
            await server.returned.wait()
            assert server.stats.failed == 1


async def test_survives_running_out_of_descriptors() -> None:
    with capture_logs() as logs:
        async with serving() as server, await server.connect() as before:
            await exchange(before)
            client = trio.SocketStream(trio.socket.socket())
            with no_more_descriptors(client.socket.fileno()):
                await client.socket.connect(("127.0.0.1", server.port))
                while not server.stats.exhausted:
                    await trio.testing.wait_all_tasks_blocked()
                await exchange(before)  # the others go on
            await exchange(client)
            await client.aclose()
    assert [entry["event"] for entry in logs] == ["cannot accept"]


@contextmanager
def no_more_descriptors(highest: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Descriptors below the new limit may be free: fill them.
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while True:
            try:
                fillers.append(socket.socket())
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            filler.close()


async def test_a_broken_listener_surfaces() -> None:
    listeners = await open_listeners("127.0.0.1:0")
    with pytest.RaisesGroup(trio.ClosedResourceError, flatten_subgroups=True), trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            await nursery.start(_serve, listeners)
            await trio.testing.wait_all_tasks_blocked()
            listeners[0].socket.close()


async def _serve(listeners: list[trio.SocketListener], *, task_status: trio.TaskStatus[object]) -> None:
    await serve_tcp(echo, listeners, name="test", drain=Drain(), task_status=task_status)


@pytest.mark.parametrize(
    ("address", "host", "alike"),
    [
        (("192.0.2.1", 7), "192.0.2.1", ("192.0.2.1", 8)),
        (("::ffff:192.0.2.1", 7, 0, 0), "192.0.2.1", ("192.0.2.1", 8)),
        (("2001:db8::1", 7, 0, 0), "2001:db8::1", ("2001:db8::ffff:1", 8, 0, 0)),
        (("fe80::1%lo", 7, 0, 1), "fe80::1%lo", ("fe80::2%lo", 8, 0, 1)),
    ],
)
def test_counts_addresses(address, host, alike) -> None:
    peer, key = _identify(address)
    assert peer == Peer(host, 7)
    assert _identify(alike)[1] == key
    assert _identify(("2001:db8:0:1::1", 7, 0, 0))[1] != key


async def test_publishes_its_counters() -> None:
    async with serving() as server, await server.connect() as client:
        await exchange(client)
        text = metrics.render().decode()
        assert 'whook_connections{listener="test"} 1.0' in text
        assert 'whook_connections_accepted_total{listener="test"} 1.0' in text
        assert 'whook_connections_refused_total{limit="per-address",listener="test"} 0.0' in text
    assert "whook_connections{" not in metrics.render().decode()
