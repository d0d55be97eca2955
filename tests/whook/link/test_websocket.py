"""The WebSocket transport over real sockets: our own two ends, and peers that are neither."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.support.certificates import self_signed, server_context
from tests.support.deadlines import DEADLINE
from tests.support.links import open_handshake, over_websocket, until
from whook.link import HandshakeRefused, LinkClosed, Transport
from whook.link.websocket import connect_websocket

Serve = Callable[[trio.abc.Stream], Awaitable[None]]

HANDSHAKE = (
    b"GET /v1/tunnel?x=1 HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: whook.v1\r\nAuthorization: Bearer one\r\n\r\n"
)


@asynccontextmanager
async def served(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncGenerator[str]:
    """Serve connections with `serve`; give the URL."""
    listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await serve(stream if context is None else trio.SSLStream(stream, context, server_side=True))

    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, handle, listeners)
        yield f"{'ws' if context is None else 'wss'}://127.0.0.1:{port}/v1/tunnel"
        nursery.cancel_scope.cancel()


async def failure(url: str, *, seconds: float = DEADLINE, context: ssl.SSLContext | None = None) -> Exception:
    """Dial, which must not succeed; give what is raised."""
    with pytest.raises((LinkClosed, HandshakeRefused)) as raised:
        async with connect_websocket(url, headers=[], timeout=seconds, ssl_context=context):
            pytest.fail("it connected")
    return raised.value


@asynccontextmanager
async def accepted(stream: trio.abc.Stream) -> AsyncGenerator[Transport]:
    async with open_handshake(stream, timeout=DEADLINE) as handshake:
        yield await handshake.accept()


async def echo(stream: trio.abc.Stream) -> None:
    with contextlib.suppress(LinkClosed):  # a client that does not trust us
        async with accepted(stream) as transport:
            while data := await transport.receive():
                await transport.send(data)


# -- our own two ends ---------------------------------------------------------------------------------------


async def test_what_the_server_sees_of_a_handshake() -> None:
    seen: list[tuple[str, dict[str, str], bool]] = []

    async def serve(stream: trio.abc.Stream) -> None:
        async with open_handshake(stream, timeout=DEADLINE) as handshake:
            seen.append((handshake.path, handshake.headers, handshake.speaks_whook))
            await (await handshake.accept()).receive()

    headers = [(b"Authorization", b"Bearer one"), (b"X-A", b"1"), (b"x-a", b"2")]
    async with (
        served(serve) as url,
        connect_websocket(f"{url}?a=b", headers=headers, timeout=DEADLINE),
    ):
        path, named, speaks_whook = seen[0]
        assert (path, speaks_whook) == ("/v1/tunnel?a=b", True)
        assert (named["authorization"], named["x-a"]) == ("Bearer one", "2")


@pytest.mark.parametrize("size", [1, 125, 126, 65_536, 600_000])
async def test_messages_of_any_size(size: int) -> None:
    async with served(echo) as url, connect_websocket(url, headers=[], timeout=DEADLINE) as transport:
        await transport.send(b"x" * size)
        received = b""
        with trio.fail_after(DEADLINE):
            while len(received) < size:
                received += await transport.receive()
        assert received == b"x" * size


async def test_closing_is_seen_as_the_end() -> None:
    async with over_websocket() as (server, client):
        await client.send(b"last")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            assert await server.receive() == b"last"
            assert await server.receive() == b""
        with pytest.raises(LinkClosed):
            await server.send(b"x")
        with pytest.raises(LinkClosed):
            await client.send(b"x")
        await server.aclose()
        await client.aclose()


async def test_a_refusal_is_given_as_it_was_said() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        async with open_handshake(stream, timeout=DEADLINE) as handshake:
            await handshake.reject(401, [(b"Content-Type", b"application/problem+json")], b'{"a": 1}' * 2000)

    async with served(serve) as url:
        refused = await failure(url)
    assert isinstance(refused, HandshakeRefused)
    assert (refused.status, refused.headers["content-type"]) == (401, "application/problem+json")
    assert refused.headers["content-length"] == "16000"
    assert len(refused.body) == 8192
    assert str(refused) == "the WebSocket handshake was refused with HTTP status 401"


async def test_over_tls(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate)
    async with served(echo, server_context(certificate)) as url:
        async with connect_websocket(url, headers=[], timeout=DEADLINE, ssl_context=trusting) as transport:
            await transport.send(b"secret")
            assert await transport.receive() == b"secret"
        untrusted = await failure(url)
    assert "certificate verify failed" in str(untrusted)
    async with served(echo) as url:
        assert isinstance(await failure(url.replace("ws:", "wss:"), context=trusting), LinkClosed)


async def test_what_the_block_raises_is_not_lost() -> None:
    async with served(echo) as url:
        with pytest.RaisesGroup(LookupError):
            async with connect_websocket(url, headers=[], timeout=DEADLINE):
                raise LookupError("a defect")
    raised: list[BaseException] = []

    async def serve(stream: trio.abc.Stream) -> None:
        try:
            async with accepted(stream):
                raise LookupError("a defect")
        except LookupError as error:
            raised.append(error)

    async with served(serve) as url, connect_websocket(url, headers=[], timeout=DEADLINE) as transport:
        with pytest.raises(LinkClosed):
            await transport.receive()
        await until(lambda: raised)
    assert [type(error) for error in raised] == [LookupError]


# -- servers that are none ----------------------------------------------------------------------------------


async def says(data: bytes, stream: trio.abc.Stream) -> None:
    await stream.receive_some()
    await stream.send_all(data)
    await stream.receive_some()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "closed the connection"),
        (b"SSH-2.0-OpenSSH_9.0\r\n", "does not speak WebSocket"),
        (b"\xff\xfe\xfd\r\n\r\n", "does not speak WebSocket"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "does not speak WebSocket"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\xff\r\n\r\n",
            "does not speak WebSocket",
        ),
    ],
)
async def test_servers_that_answer_something_else(data: bytes, reason: str) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        if data:
            await stream.send_all(data)

    async with served(serve) as url:
        closed = await failure(url)
    assert isinstance(closed, LinkClosed)
    assert reason in str(closed)


async def test_a_proxy_that_answers_for_the_server() -> None:
    async with served(partial(says, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno")) as url:
        refused = await failure(url)
    assert isinstance(refused, HandshakeRefused)
    assert (refused.status, refused.body) == (502, b"no")


async def test_a_server_that_does_not_answer() -> None:
    async with served(lambda _: trio.sleep_forever()) as url:  # noqa: ASYNC105 - awaited by the server
        closed = await failure(url, seconds=0.05)
    assert str(closed) == f"no answer from {url} within 0.05 s"


async def test_nobody_there() -> None:
    async with served(echo) as url:
        pass
    assert str(await failure(url)).startswith(f"cannot reach {url}: ")
    assert "does-not-exist.invalid" in str(await failure("ws://does-not-exist.invalid:1/"))
    for address in ("http://relay/", "ws://", "relay:80"):
        assert "is not a WebSocket address" in str(await failure(address))


# -- clients that are none ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",  # TLS
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\xff\r\nUpgrade: websocket\r\n\r\n",
        HANDSHAKE.replace(b"whook.v1", b"\xc3\xa9"),
        HANDSHAKE.replace(b"Upgrade\r\n", b"\xc3\xa9\r\n"),
        HANDSHAKE.replace(b"Host: relay", b"Host: xn--\xff"),
        HANDSHAKE.replace(b"Version: 13", b"Version: 12"),
        b"x" * 100_000,
    ],
)
async def test_handshakes_that_are_none(data: bytes) -> None:
    ended = trio.Event()

    async def serve(stream: trio.abc.Stream) -> None:
        with pytest.raises(LinkClosed, match=r"no WebSocket handshake$"):
            async with open_handshake(stream, timeout=DEADLINE):
                pytest.fail("no handshake")
        ended.set()

    async with served(serve) as url:
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(data)
                await stream.send_eof()
            with trio.fail_after(DEADLINE):
                await ended.wait()  # at once, not after the timeout


async def test_a_client_that_says_nothing() -> None:
    ended = trio.Event()

    async def serve(stream: trio.abc.Stream) -> None:
        with pytest.raises(trio.TooSlowError):
            async with open_handshake(stream, timeout=0.05):
                pytest.fail("no handshake")
        ended.set()

    async with served(serve) as url:
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        async with stream:
            with trio.fail_after(DEADLINE):
                await ended.wait()


FRAMES = {
    "text": b"\x81\x81\0\0\0\0a",
    "not masked": b"\x82\x01a",
    "reserved bits": b"\xf2\x81\0\0\0\0a",
    "unknown opcode": b"\x83\x81\0\0\0\0a",
    "close with half a code": b"\x88\x81\0\0\0\0\3",
    "close with a code that is none": b"\x88\x82\0\0\0\0\0\1",
    "close, then more": b"\x88\x80\0\0\0\0\x82\x81\0\0\0\0a",
    "a continuation of nothing": b"\x80\x81\0\0\0\0a",
    "too long a message": b"\x82\xff\0\0\0\0\0\x20\0\0\0\0\0\0" + bytes(2_097_152),
    "a long ping": b"\x89\xfe\1\0\0\0\0\0" + bytes(256),
    "nothing": b"",
}


@pytest.mark.parametrize("then", ["end", "reset"])
@pytest.mark.parametrize("name", FRAMES)
async def test_clients_that_break_the_websocket(name: str, then: str) -> None:
    closed: list[object] = []

    async def serve(stream: trio.abc.Stream) -> None:
        async with accepted(stream) as transport:
            try:
                closed.append(await transport.receive())
            except LinkClosed as error:
                closed.append(error)
            if closed[0] != b"":
                await transport.aclose()
            with pytest.raises(LinkClosed):
                await transport.send(b"x")
            await transport.aclose()

    async with served(serve) as url:
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        async with stream:
            await stream.send_all(HANDSHAKE)
            await stream.receive_some()
            try:
                await stream.send_all(FRAMES[name])
            except trio.BrokenResourceError:
                assert name == "too long a message"
            if then == "reset":
                stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await stream.aclose()
            await until(lambda: closed)
    assert closed[0] == b"" or isinstance(closed[0], LinkClosed)


async def test_an_empty_message_is_no_end() -> None:
    received: list[bytes] = []

    async def serve(stream: trio.abc.Stream) -> None:
        async with accepted(stream) as transport:
            received.append(await transport.receive())

    async with (
        served(serve) as url,
        connect_websocket(url, headers=[], timeout=DEADLINE) as transport,
    ):
        await transport.send(b"")
        await transport.send(b"x")
        await until(lambda: received)
    assert received == [b"x"]


async def test_a_client_that_stalls_does_not_hold_up_closing() -> None:
    closed = trio.Event()

    async def serve(stream: trio.abc.Stream) -> None:
        async with accepted(stream) as transport:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(transport.send, bytes(50_000_000))
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            with trio.move_on_after(0):
                await transport.aclose()  # closes even when nobody has time for it
        closed.set()

    async with served(serve) as url:
        stream = await trio.open_tcp_stream("127.0.0.1", int(url.split(":")[2].split("/")[0]))
        async with stream:
            await stream.send_all(HANDSHAKE)
            with trio.fail_after(DEADLINE):
                await closed.wait()
