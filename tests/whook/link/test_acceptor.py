"""The opening handshake of the relay's end, by clients that speak HTTP."""

from __future__ import annotations

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.links import open_handshake, tcp_pair
from whook.link import LinkClosed

HANDSHAKE = (
    b"GET /v1/tunnel?x=1 HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: whook.v1\r\nAuthorization: Bearer one\r\n\r\n"
)


@pytest.mark.parametrize(
    "data",
    [
        b"POST /v1/tunnels HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        HANDSHAKE.replace(b"Version: 13", b"Version: 8"),
        HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="),
        HANDSHAKE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"!!"),
        HANDSHAKE.replace(b"GET", b"POST"),
        HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        HANDSHAKE.replace(b"Host: relay", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHost: relay"),
    ],
)
async def test_who_speaks_http_but_no_websocket_is_told(data: bytes) -> None:
    answer = b""
    async with tcp_pair() as (client, server):
        await client.send_all(data)
        with pytest.raises(LinkClosed, match="no WebSocket handshake"):
            async with open_handshake(server, timeout=DEADLINE):
                pytest.fail("no handshake")
        with trio.fail_after(DEADLINE):
            while more := await client.receive_some():
                answer += more
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" in answer


async def test_frames_that_come_with_the_handshake() -> None:
    async with tcp_pair() as (client, server):
        await client.send_all(HANDSHAKE + b"\x82\x85\0\0\0\0early")
        async with open_handshake(server, timeout=DEADLINE) as handshake:
            transport = await handshake.accept()
            with trio.fail_after(DEADLINE):
                assert await transport.receive() == b"early"
