"""Exchanges to a real local server and back, compared byte by byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from tests.support.deadlines import DEADLINE, Gate
from tests.support.far_end import ROUTE, read, request
from tests.support.forwarding import connections, forwarding, post
from tests.support.origin import Origin, Turn, ok, reply, response
from whook.link import ExchangeReset, Head
from whook_cli.attempt import INLINE
from whook_cli.records import RequestRecord


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as made:
        yield made
        made.check()


async def test_a_small_request_and_its_answer_byte_for_byte(origin: Origin) -> None:
    head = b"HTTP/1.1 201 Made It\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nX: \xe9\r\n"
    origin.script(reply(head, b"content-length: 2\r\n\r\nok"))
    headers = post(b'{"a":1}', (b"X-b", b"1"), (b"x-B", b""), (b"Whook-Event-Id", b"evt_1"))
    async with forwarding(origin.url) as client:
        exchange = client.opener.open(
            ROUTE, request(target=b"/a%2Fb?x=1&x=%zz&", headers=headers), body=b'{"a":1}', end=True
        )
        answered = await read(exchange)
    assert origin.received[0].head == (
        b"POST /a%2Fb?x=1&x=%zz& HTTP/1.1\r\nhOST: shop.example\r\nX-b: 1\r\nx-B: \r\nWhook-Event-Id: evt_1\r"
        b"\nContent-Length: 7\r\n\r\n"
    )
    assert origin.received[0].body == b'{"a":1}'
    assert (answered.status, answered.head.reason) == (201, b"Made It")
    assert answered.head.headers == [
        (b"set-cookie", b"a=1"),
        (b"Set-Cookie", b"b=2"),
        (b"X", b"\xe9"),
        (b"content-length", b"2"),
    ]
    assert answered.body == b"ok"
    record = client.records[0]
    assert (record.status, record.request_bytes, record.response_bytes, record.error) == (201, 7, 2, "")
    assert (record.event_id, record.client, record.method) == ("evt_1", "192.0.2.1", b"POST")


async def test_a_chunked_body_stays_chunked_with_its_trailers(origin: Origin) -> None:
    origin.script(ok)
    headers = [(b"Host", b"h"), (b"transfer-ENCODING", b"chunked"), (b"Trailer", b"X-Sum")]
    async with forwarding(origin.url) as client:
        exchange = client.opener.open(ROUTE, request(headers=headers), body=b"one", end=False)
        await exchange.send_data(b"two")
        exchange.send_end([(b"X-Sum", b"6")])
        assert (await read(exchange)).status == 200
    received = origin.received[0]
    assert (received.body, received.trailers, received.framing) == (b"onetwo", (b"X-Sum: 6",), "chunked")


@pytest.mark.parametrize("body", [b"", b"x", b"y" * 50_000])
async def test_a_chunked_body_at_hand(origin: Origin, body: bytes) -> None:
    origin.script(ok)
    headers = [(b"Host", b"h"), (b"Transfer-Encoding", b"chunked")]
    async with forwarding(origin.url) as client:
        assert (
            await read(client.opener.open(ROUTE, request(headers=headers), body=body, end=True))
        ).status == 200
    assert (origin.received[0].body, origin.received[0].framing) == (body, "chunked")


async def test_a_chunked_response_with_trailers(origin: Origin) -> None:
    origin.script(
        reply(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"3\r\none\r\n3\r\ntwo\r\n0\r\nX-Sum: 6\r\n\r\n",
        )
    )
    async with forwarding(origin.url) as client:
        answered = await read(client.opener.open(ROUTE, request(headers=post(b"")), end=True))
    assert (answered.body, answered.trailers) == (b"onetwo", [(b"X-Sum", b"6")])
    assert (b"Transfer-Encoding", b"chunked") in answered.head.headers


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b""),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
        (b"GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b""),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    ],
)
async def test_responses_keep_the_connection(
    origin: Origin, method: bytes, answer: bytes, body: bytes
) -> None:
    origin.script(reply(answer), reply(answer))
    async with forwarding(origin.url) as client:
        for _ in range(2):
            answered = await read(client.opener.open(ROUTE, request(method), end=True))
            assert answered.body == body
    assert connections(origin) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.0 200 OK\r\nContent-Length: 13\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 13\r\n\r\nuntil the end",
    ],
)
async def test_responses_that_end_the_connection(origin: Origin, answer: bytes) -> None:
    origin.script(reply(answer, close=True), ok)
    async with forwarding(origin.url) as client:
        assert (await read(client.opener.open(ROUTE, request(b"GET"), end=True))).body == b"until the end"
        assert (await read(client.opener.open(ROUTE, request(b"GET"), end=True))).body == b"ok"
    assert connections(origin) == 2


async def test_informational_responses_are_relayed(origin: Origin) -> None:
    origin.script(
        reply(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 X\r\n\r\n", response(b"ok"))
    )
    async with forwarding(origin.url) as client:
        answered = await read(client.opener.open(ROUTE, request(b"GET"), end=True))
    assert [head.status for head in answered.heads] == [103, 102, 200]
    assert answered.heads[0].headers == [(b"Link", b"</a>")]


async def test_expect_100_continue(origin: Origin) -> None:
    def ask(turn: Turn) -> None:
        turn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        turn.read()
        turn.send(response(b"thanks"))

    origin.script(ask)
    headers = [(b"Host", b"h"), (b"Expect", b"100-continue"), (b"Content-Length", b"4")]
    async with forwarding(origin.url) as client:
        exchange = client.opener.open(ROUTE, request(headers=headers), end=False)
        with trio.fail_after(DEADLINE):
            head = await exchange.receive()
        assert isinstance(head, Head)
        assert head.response.status == 100
        await exchange.send_data(b"body", end=True)
        assert (await read(exchange)).body == b"thanks"
    assert origin.received[0].body == b"body"


async def test_the_first_byte_is_not_delayed(origin: Origin) -> None:
    gate = Gate("second event")

    def stream(turn: Turn) -> None:
        turn.read()
        turn.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        gate.wait()
        turn.send(b"data: 2\n\n")
        turn.close()

    origin.script(stream)
    async with forwarding(origin.url) as client:
        exchange = client.opener.open(ROUTE, request(b"GET"), end=True)
        with trio.fail_after(DEADLINE):
            head, first = await exchange.receive(), await exchange.receive()
        assert isinstance(head, Head)
        assert first.data == b"data: 1\n\n"  # type: ignore[union-attr]
        opened = client.shown[0]
        assert isinstance(opened, RequestRecord)
        assert (opened.still_open, opened.status) == (True, 200)
        gate.open()
        assert (await read(exchange)).body == b"data: 2\n\n"
    assert [r.response_bytes for r in client.records] == [18]


async def test_both_directions_stream_at_once(origin: Origin) -> None:
    """An echo that answers while it reads: neither side could go on if one had to wait for the other."""
    size = 8_000_000

    def echo(turn: Turn) -> None:
        turn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            data = turn.peer.take(min(left, 40_000))
            turn.send(data)
            left -= len(data)

    origin.script(echo)
    payload = bytes(range(256)) * (size // 256)
    async with forwarding(origin.url) as client:
        exchange = client.opener.open(ROUTE, request(headers=post(payload)), end=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: exchange.send_data(payload, end=True))
            answered = await read(exchange)
    assert answered.body == payload
    assert client.records[0].request_bytes == client.records[0].response_bytes == size


@pytest.mark.parametrize("size", [INLINE - 200, INLINE + 1, 60_000])
async def test_bodies_around_the_inline_size(origin: Origin, size: int) -> None:
    origin.script(ok)
    async with forwarding(origin.url) as client:
        sent = request(headers=post(bytes(size)))
        assert (await read(client.opener.open(ROUTE, sent, body=bytes(size), end=True))).status == 200
    assert origin.received[0].body == bytes(size)


async def test_an_early_answer_does_not_cut_the_upload_short(origin: Origin) -> None:
    def early(turn: Turn) -> None:
        turn.send(response(b"early"))
        turn.read()

    origin.script(early, ok)
    headers = post(bytes(1_000_000))
    async with forwarding(origin.url) as client:
        exchange = client.opener.open(ROUTE, request(headers=headers), end=False)
        assert (await read(exchange)).body == b"early"
        await exchange.send_data(bytes(1_000_000), end=True)
        await trio.to_thread.run_sync(origin.wait_received, 1)
        assert (await read(client.opener.open(ROUTE, request(b"GET"), end=True))).body == b"ok"
    assert origin.received[0].body == bytes(1_000_000)
    assert connections(origin) == 1


async def test_an_early_answer_from_a_server_that_hangs_up(origin: Origin) -> None:
    def refuse(turn: Turn) -> None:
        turn.send(response(b"too much", b"Connection: close", status=b"413 Content Too Large"))
        turn.close()

    origin.script(refuse)
    async with forwarding(origin.url) as client:
        exchange = client.opener.open(ROUTE, request(headers=post(bytes(5_000_000))), end=False)
        with trio.fail_after(DEADLINE):
            assert (await read(exchange)).status == 413
            with pytest.raises(ExchangeReset):  # nobody will read the rest
                await exchange.send_data(bytes(5_000_000), end=True)


async def test_a_base_path_and_a_rewritten_host(origin: Origin) -> None:
    origin.script(ok)
    async with forwarding(f"{origin.url}/base%20/", rewrite=True) as client:
        sent = request(target=b"/hook?x", headers=[(b"A", b"1"), (b"hOsT", b"shop.example"), (b"B", b"2")])
        assert (await read(client.opener.open(ROUTE, sent, end=True))).status == 200
    authority = origin.url.removeprefix("http://").encode()
    assert origin.received[0].head == (
        b"POST /base%20/hook?x HTTP/1.1\r\nA: 1\r\nhOsT: " + authority + b"\r\nB: 2\r\n\r\n"
    )


async def test_verbose_keeps_what_is_to_be_shown(origin: Origin) -> None:
    origin.script(reply(response(b'{"ok":true}', b"X: y")))
    async with forwarding(origin.url, verbose=True) as client:
        await read(client.opener.open(ROUTE, request(headers=post(b"abc")), body=b"abc", end=True))
    details = client.records[0].details
    assert details is not None
    assert details.request_headers == post(b"abc")
    assert bytes(details.request_body.data) == b"abc"
    assert bytes(details.response_body.data) == b'{"ok":true}'
    assert details.response_reason == b"OK"
    assert (b"X", b"y") in details.response_headers
