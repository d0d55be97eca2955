"""Who gets a tunnel or a trunk, and what those are told who do not."""

from __future__ import annotations

import json

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.links import read, until
from tests.support.relay import SIGNING_KEY, Relay, hello, open_relay, opened, token
from whook.chassis.tunnel_token import SigningKey, Verifier, jwks
from whook.link import HandshakeRefused, LinkClosed, TrunkRefused
from whook.link.websocket import connect_websocket
from whook.wire import PROTOCOL_VERSION, GoAwayCode, Hello, encode_frame, encode_hello

PROBLEM = "application/problem+json"


async def refused(relay: Relay, authorization: str | None, path: str = "") -> HandshakeRefused:
    """Dial, which must be answered with an HTTP error."""
    headers = [] if authorization is None else [(b"Authorization", authorization.encode())]
    url = relay.ports.tunnel_url.replace("/v1/tunnel", path) if path else relay.ports.tunnel_url
    with pytest.raises(HandshakeRefused) as error:
        async with connect_websocket(url, headers=headers, timeout=DEADLINE):
            pytest.fail("it was accepted")
    return error.value


@pytest.mark.parametrize(
    ("authorization", "detail"),
    [
        (None, "A tunnel token is missing."),
        ("", "A tunnel token is missing."),
        ("Basic dTpw", "A tunnel token is missing."),
        ("Bearer", "A tunnel token is missing."),
        ("Bearer junk", "The tunnel token is refused: malformed."),
        ("Bearer " + "a.b." * 5000, None),
        ("Bearer " + token(lifetime=-60), "The tunnel token is refused: expired."),
        ("Bearer " + token(relay_id="relay-2"), "The tunnel token is refused: wrong-relay."),
        ("Bearer " + token(key=SigningKey.generate()), "The tunnel token is refused: unknown-key."),
    ],
)
async def test_tokens_that_open_nothing(authorization: str | None, detail: str | None) -> None:
    async with open_relay() as relay:
        if detail is None:  # longer than a handshake may be
            with pytest.raises((HandshakeRefused, LinkClosed)):
                await refused_or_closed(relay, authorization or "")
            return
        answer = await refused(relay, authorization)
        assert (answer.status, answer.headers["content-type"]) == (401, PROBLEM)
        assert json.loads(answer.body) == {
            "type": "urn:whook:problem:unauthorized",
            "title": json.loads(answer.body)["title"],
            "status": 401,
            "detail": detail,
        }
        assert relay.tables == {}


async def refused_or_closed(relay: Relay, authorization: str) -> None:
    headers = [(b"Authorization", authorization.encode())]
    async with connect_websocket(relay.ports.tunnel_url, headers=headers, timeout=DEADLINE):
        pytest.fail("it was accepted")


async def test_the_scheme_is_written_as_the_client_likes() -> None:
    async with open_relay() as relay:
        headers = [(b"authorization", b"bEARER " + token().encode())]
        async with connect_websocket(relay.ports.tunnel_url, headers=headers, timeout=DEADLINE):
            pass


@pytest.mark.parametrize("path", ["/", "/v1/tunnels", "/v1/tunnel/x", "/V1/tunnel"])
async def test_another_path(path: str) -> None:
    async with open_relay() as relay:
        answer = await refused(relay, f"Bearer {token()}", path)
        assert (answer.status, json.loads(answer.body)["type"]) == (404, "urn:whook:problem:not-found")


async def test_a_query_is_no_other_path() -> None:
    async with open_relay() as relay:
        headers = [(b"Authorization", b"Bearer " + token().encode())]
        async with connect_websocket(f"{relay.ports.tunnel_url}?a=b", headers=headers, timeout=DEADLINE):
            pass


@pytest.mark.parametrize("offer", [b"", b"Sec-WebSocket-Protocol: chat, whook.v2\r\n"])
async def test_without_the_subprotocol(offer: bytes) -> None:
    """Read raw: every byte of a refusal counts for clients that are none of ours."""
    async with open_relay() as relay, await connection(relay.ports.tunnel_url) as stream:
        await stream.send_all(
            b"GET /v1/tunnel HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + offer + b"\r\n"
        )
        answer = b""
        with trio.fail_after(DEADLINE):
            async for data in stream:
                answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert head.lower().count(b"content-length: %d" % len(body)) == 1
        assert json.loads(body)["type"] == "urn:whook:problem:version"


async def connection(url: str) -> trio.SocketStream:
    host, _, port = url.split("//")[1].split("/")[0].rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


async def test_a_relay_that_is_full() -> None:
    async with open_relay(capacity=1) as relay, relay.client():
        answer = await refused(relay, f"Bearer {token(project='blog')}")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert json.loads(answer.body)["type"] == "urn:whook:problem:no-relay"


async def test_a_client_of_another_version() -> None:
    async with open_relay() as relay:
        goaway = await relay.refusal(hello(version=PROTOCOL_VERSION + 1))
        assert goaway.code == GoAwayCode.VERSION
        assert "protocol version 1, the client 2" in goaway.message
        await until(lambda: not relay.tables)
        assert await relay.holder() == ""


async def test_a_client_that_never_introduces_itself() -> None:
    async with open_relay(handshake_timeout=0.05) as relay, relay.dial() as link:
        with pytest.raises(LinkClosed), trio.fail_after(DEADLINE):
            await link.receive_hello()
        assert relay.tables == {}


@pytest.mark.parametrize(
    "first",
    [
        encode_frame(4, 0, 1, b"data"),
        encode_frame(8, 0, 0, b"\x91\x01"),
        encode_frame(1, 0, 0, b"\xa1\xff"),
        encode_frame(1, 0, 7, b"\x80"),
        b"\xff" * 20,
    ],
)
async def test_introductions_that_are_none(first: bytes) -> None:
    async with open_relay() as relay, relay.dial() as link:
        await link.send_now(first)
        with pytest.raises(LinkClosed), trio.fail_after(DEADLINE):
            await link.receive_hello()
        assert relay.tables == {}


async def test_instances_are_bounded() -> None:
    async with open_relay() as relay, relay.client(introduction=hello("i" * 100_000)) as client:
        assert relay.switch.tunnels[client.hello.tunnel_id].instance == "i" * 100
    async with open_relay() as relay, relay.client(introduction=hello("")) as client:
        assert relay.switch.tunnels[client.hello.tunnel_id].instance == client.hello.tunnel_id


async def test_strangers_on_the_tunnel_port() -> None:
    """They are let go at once and cost nothing; a tunnel opens beside them."""
    async with open_relay() as relay:
        for data in (b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 50_000):
            async with await connection(relay.ports.tunnel_url) as stream:
                with trio.fail_after(DEADLINE):
                    try:
                        await stream.send_all(data)
                        await stream.send_eof()
                        while await stream.receive_some():
                            pass
                    except trio.BrokenResourceError:
                        continue
        async with relay.client() as client, relay.conductor() as conductor:
            assert (await read(opened(conductor, client)))[0] == [200]


# -- keys ---------------------------------------------------------------------------------------------------


async def test_a_relay_that_has_no_keys_yet_says_503_and_takes_clients_once_it_has() -> None:
    """401 would end the client for good, though its token may be as good as any."""
    verifier = Verifier({"keys": []})
    asked = 0

    async def refresh() -> None:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        if asked == 2:
            verifier.update(jwks([SIGNING_KEY]))

    async with open_relay(verifier=verifier, refresh_keys=refresh) as relay:
        with pytest.raises(HandshakeRefused) as refused:
            async with relay.client():
                pytest.fail("it was taken")
        assert (refused.value.status, asked) == (503, 1)
        problem = json.loads(refused.value.body)
        assert problem["type"] == "urn:whook:problem:unavailable"
        assert refused.value.headers["retry-after"] == "1"
        async with relay.client():  # the second time auth was there
            assert asked == 2


async def test_a_relay_that_has_keys_says_401_to_a_token_of_none_of_them() -> None:
    asked = 0

    async def refresh() -> None:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()

    async with open_relay(refresh_keys=refresh) as relay:
        with pytest.raises(HandshakeRefused) as refused:
            async with relay.client(key=SigningKey.generate()):
                pytest.fail("it was taken")
        assert (refused.value.status, asked) == (401, 1)
        assert json.loads(refused.value.body)["detail"] == "The tunnel token is refused: unknown-key."


# -- trunks -------------------------------------------------------------------------------------------------


async def test_a_conductor_with_another_key() -> None:
    async with open_relay() as relay:
        with pytest.raises(TrunkRefused):
            async with relay.conductor("another key"):
                pytest.fail("it was taken")
        await until(lambda: not relay.tables)


async def test_strangers_on_the_trunk_port() -> None:
    hello_without_key = encode_hello(
        Hello(version=1, agent="x", peer="conductor", instance="x", nonce=bytes(32))
    )
    async with open_relay(handshake_timeout=0.05) as relay:
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, hello_without_key, hello_without_key * 2):
            async with await connection(relay.ports.trunk_url) as stream:
                with trio.fail_after(DEADLINE):
                    try:
                        await stream.send_all(data)
                        while await stream.receive_some():
                            pass
                    except trio.BrokenResourceError:
                        continue
        assert relay.tables == {}
        async with relay.client() as client, relay.conductor() as conductor:
            assert (await read(opened(conductor, client)))[0] == [200]


async def test_there_is_no_relay_without_a_cluster_key() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="cluster_key"), flatten_subgroups=True):
        async with open_relay(cluster_key=""):
            pytest.fail("it started")
