"""Local servers that are down, break off or talk nonsense, and requests that must not reach them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import trio

from tests.support.deadlines import Gate
from tests.support.far_end import ROUTE, read, request
from tests.support.forwarding import forwarding
from tests.support.origin import Origin, Turn, reply
from whook.link import ExchangeReset
from whook.wire import Headers, ResetCode


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as made:
        yield made
        made.check()


def problem(body: bytes) -> dict[str, object]:
    return json.loads(body)  # type: ignore[no-any-return]


async def test_a_local_server_that_is_down() -> None:
    with Origin() as closed:
        pass
    async with forwarding(closed.url) as client:
        answered = await read(client.opener.open(ROUTE, request(), end=True))
        head = await read(client.opener.open(ROUTE, request(b"HEAD"), end=True))
    assert (answered.status, answered.head.reason) == (502, b"Bad Gateway")
    assert (b"Content-Type", b"application/problem+json") in answered.head.headers
    assert problem(answered.body) == {
        "type": "urn:whook:problem:local-unreachable",
        "title": "The local server cannot be reached",
        "status": 502,
        "detail": "The webhook went through the tunnel, but its client cannot reach "
        f"{closed.url}: connection refused.",
        "event_id": "evt_1",
    }
    assert (head.status, head.body) == (502, b"")
    assert client.records[0].error == f"cannot reach {closed.url}: connection refused"
    assert client.records[0].status == 502


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "sent something that is no HTTP response"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "sent something that is no HTTP",
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            "sent something that is no HTTP response",
        ),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", "sent something that is no HTTP response"),
        (b"HTTP/1.1 200 OK\r\nX", "closed the connection without an answer"),
    ],
)
async def test_answers_that_are_none(origin: Origin, answer: bytes, reason: str) -> None:
    origin.script(reply(answer, close=True))
    async with forwarding(origin.url) as client:
        answered = await read(client.opener.open(ROUTE, request(), end=True))
    assert answered.status == 502
    assert problem(answered.body)["type"] == "urn:whook:problem:local-failed"
    assert reason in str(problem(answered.body)["detail"])
    assert client.records[0].error.startswith(f"{origin.url} {reason}")


async def test_a_response_that_breaks_off(origin: Origin) -> None:
    origin.script(reply(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", close=True))
    async with forwarding(origin.url) as client:
        exchange = client.opener.open(ROUTE, request(), end=True)
        with pytest.raises(ExchangeReset) as caught:
            await read(exchange)
    assert caught.value.code == ResetCode.LOCAL_FAILED
    assert client.records[0].error == f"{origin.url} closed the connection in the middle of its response"
    assert client.records[0].status == 200


async def test_a_request_that_nobody_waits_for_any_more(origin: Origin) -> None:
    gate = Gate("the client has closed")

    def silent(turn: Turn) -> None:
        turn.read()
        assert turn.peer.at_end()
        gate.open()

    origin.script(silent)
    async with forwarding(origin.url) as client:
        exchange = client.opener.open(ROUTE, request(), end=True)
        await trio.to_thread.run_sync(origin.wait_received, 1)
        exchange.reset(ResetCode.DEADLINE)
        await trio.to_thread.run_sync(gate.wait)
        assert client.pool.take() is None
    assert client.records[0].error == "the server's deadline for an answer passed"


@pytest.mark.parametrize(
    "headers", [[(b"A\r\nB", b"c")], [(b"Transfer-Encoding", b"gzip")], [(b"Host", b"a\nb")]]
)
async def test_a_request_that_would_break_out_of_its_line_is_refused(
    origin: Origin, headers: Headers
) -> None:
    async with forwarding(origin.url) as client:
        with pytest.raises(ExchangeReset) as caught:
            await read(client.opener.open(ROUTE, request(headers=headers), end=True))
    assert caught.value.code == ResetCode.PROTOCOL
    assert "malformed request" in client.records[0].error


async def test_a_body_that_nothing_announces_is_refused(origin: Origin) -> None:
    async with forwarding(origin.url) as client:
        smuggled = b"GET /admin HTTP/1.1\r\n\r\n"
        with pytest.raises(ExchangeReset):
            await read(client.opener.open(ROUTE, request(), body=smuggled, end=True))
