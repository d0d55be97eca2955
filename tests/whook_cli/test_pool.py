"""Connections to the local server: kept, checked, replaced when they went stale, over TLS too."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.support.certificates import self_signed, server_context
from tests.support.deadlines import DEADLINE
from tests.support.far_end import ROUTE, read, request
from tests.support.forwarding import connections, forwarding, post
from tests.support.origin import Origin, Turn, ok, reply, response
from whook_cli import pool as pool_module
from whook_cli.pool import LocalUnreachable, Pool, open_pool
from whook_cli.target import parse_target


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as made:
        yield made
        made.check()


def hang_up(turn: Turn) -> None:
    turn.read()
    turn.close()


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used(origin: Origin) -> None:
    origin.script(ok, ok)
    async with forwarding(origin.url) as client:
        await read(client.opener.open(ROUTE, request(b"GET"), end=True))
        idle = client.pool.take()
        assert idle is not None
        client.pool.give_back(idle)
        origin.drop_connections()
        with trio.fail_after(DEADLINE):
            await trio.lowlevel.wait_readable(idle.stream.socket)  # type: ignore[attr-defined]
        assert (await read(client.opener.open(ROUTE, request(b"GET"), end=True))).status == 200
    assert connections(origin) == 2


@pytest.mark.parametrize("size", [0, 10, 60_000])
async def test_a_request_that_met_a_closing_connection_is_sent_again(origin: Origin, size: int) -> None:
    origin.script(ok, hang_up, ok)
    async with forwarding(origin.url) as client:
        await read(client.opener.open(ROUTE, request(b"GET"), end=True))
        sent = request(headers=post(bytes(size)))
        answered = await read(client.opener.open(ROUTE, sent, body=bytes(size), end=True))
    assert answered.status == 200
    assert [len(m.body) for m in origin.received] == [0, size, size]
    assert connections(origin) == 2
    assert client.records[-1].error == ""
    assert client.records[-1].request_bytes == size


async def test_a_new_connection_is_not_tried_twice(origin: Origin) -> None:
    origin.script(hang_up)
    async with forwarding(origin.url) as client:
        assert (await read(client.opener.open(ROUTE, request(), end=True))).status == 502
    assert len(origin.received) == 1


async def test_a_request_is_not_repeated_once_an_answer_has_begun(origin: Origin) -> None:
    origin.script(ok, reply(b"HTTP/1.1 2", close=True))
    async with forwarding(origin.url) as client:
        await read(client.opener.open(ROUTE, request(b"GET"), end=True))
        assert (await read(client.opener.open(ROUTE, request(), end=True))).status == 502
    assert len(origin.received) == 2


async def test_a_request_that_was_streamed_is_not_repeated(origin: Origin) -> None:
    origin.script(ok, hang_up)
    body = bytes(300_000)
    async with forwarding(origin.url) as client:
        await read(client.opener.open(ROUTE, request(b"GET"), end=True))
        exchange = client.opener.open(ROUTE, request(headers=post(body)), end=False)
        await exchange.send_data(body[:1])
        await trio.to_thread.run_sync(origin.wait_seen, 2)
        await exchange.send_data(body[1:], end=True)
        assert (await read(exchange)).status == 502
    assert len(origin.received) == 2


async def test_bytes_that_nobody_asked_for_spoil_a_connection(origin: Origin) -> None:
    origin.script(reply(response(b"ok") + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"), ok)
    async with forwarding(origin.url) as client:
        assert (await read(client.opener.open(ROUTE, request(b"GET"), end=True))).body == b"ok"
        assert (await read(client.opener.open(ROUTE, request(b"GET"), end=True))).body == b"ok"
    assert connections(origin) == 2


async def test_idle_connections_are_bounded_and_closed(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "MAX_IDLE", 2)
    async with open_pool(parse_target(origin.url), insecure=False) as pool:
        made = [await pool.connect() for _ in range(3)]
        for connection in made:
            pool.give_back(connection)
        assert made[0].stream.socket.fileno() < 0  # type: ignore[attr-defined]
        assert pool.take() is made[2]  # the one used last
        pool.give_back(made[2])
        pool.close(made[2].idle_since)  # as the sweep does when that much time has passed
        assert made[1].stream.socket.fileno() < 0  # type: ignore[attr-defined]
        assert pool.take() is made[2]
        assert pool.take() is None
        made[2].close()


async def test_cancelling_a_connection_leaves_nothing_open() -> None:
    """A server that accepts and then says nothing of TLS."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    target = parse_target(f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    pool = Pool(target, insecure=True)
    async with listeners[0]:
        async with trio.open_nursery() as connecting:
            connecting.start_soon(pool.connect)
            accepted = await listeners[0].accept()
            await accepted.receive_some()  # the client's first words: it now waits for the answer
            connecting.cancel_scope.cancel()
        async with accepted:
            with trio.fail_after(DEADLINE):
                assert await accepted.receive_some() == b""


async def test_a_server_that_does_not_answer_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "CONNECT_TIMEOUT", 0.05)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0]:
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(LocalUnreachable, match="it does not answer"):
            await Pool(parse_target(f"https://127.0.0.1:{port}"), insecure=True).connect()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


async def tls_server(nursery: trio.Nursery, certificate: Path) -> int:
    """Answer every request over TLS with 200 and two bytes."""

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        async with stream:
            try:
                while await stream.receive_some():
                    await stream.send_all(response(b"ok"))
            except trio.BrokenResourceError:
                return

    listeners = await trio.open_ssl_over_tcp_listeners(
        0, server_context(certificate), host="127.0.0.1", https_compatible=True
    )
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    listener = listeners[0].transport_listener
    assert isinstance(listener, trio.SocketListener)
    return int(listener.socket.getsockname()[1])


async def test_tls(nursery: trio.Nursery, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = await tls_server(nursery, certificate)
    async with forwarding(f"https://localhost:{port}", insecure=True) as client:
        for _ in range(3):
            assert (await read(client.opener.open(ROUTE, request(b"GET"), end=True))).body == b"ok"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with forwarding(f"https://127.0.0.1:{port}") as client:
        assert (await read(client.opener.open(ROUTE, request(b"GET"), end=True))).body == b"ok"


async def test_a_certificate_that_is_not_trusted(nursery: trio.Nursery, certificate: Path) -> None:
    port = await tls_server(nursery, certificate)
    async with forwarding(f"https://localhost:{port}") as client:
        answered = await read(client.opener.open(ROUTE, request(b"GET"), end=True))
    assert answered.status == 502
    assert b"its certificate is not trusted (self-signed certificate)" in answered.body
    assert "certificate is not trusted" in client.records[0].error


async def test_a_server_that_does_not_speak_tls(origin: Origin, nursery: trio.Nursery) -> None:
    async def plain(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await stream.receive_some()

    listeners = await nursery.start(trio.serve_tcp, plain, 0)
    port = listeners[0].socket.getsockname()[1]
    pool = Pool(parse_target(f"https://localhost:{port}"), insecure=True)
    with pytest.raises(LocalUnreachable, match="it does not speak TLS"):
        await pool.connect()


def test_verification_can_only_be_switched_off_for_the_local_server() -> None:
    from whook_cli.tls import local_context, server_context

    assert server_context().verify_mode is ssl.CERT_REQUIRED
    assert server_context().check_hostname
    assert local_context(insecure=False).verify_mode is ssl.CERT_REQUIRED
    assert local_context(insecure=True).verify_mode is ssl.CERT_NONE
