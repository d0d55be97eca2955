"""Bodies that are still coming, responses that are still being made, and both at once."""

from __future__ import annotations

import pytest
import trio

from tests.support.async_http import get, post, request
from tests.support.conductor import answer, head, open_conductor, read_body
from whook.link import Data, Exchange
from whook.wire import ResetCode, Response


async def test_a_body_that_comes_after_its_head() -> None:
    async with open_conductor() as rig, rig.client() as client:
        for _ in range(2):
            await client.send(request("POST", "/", "Content-Length: 6"))
            await client.send(b"abc")
            await client.send(b"def")
            assert (await client.read_response()).body == b"abcdef"
        await rig.settled()


async def test_the_far_end_sees_the_head_before_the_body_has_come() -> None:
    opened = trio.Event()

    async def handler(exchange: Exchange) -> None:
        opened.set()
        body, _ = await read_body(exchange)
        await answer(exchange, body)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(request("POST", "/", "Content-Length: 3"))
        await opened.wait()
        await client.send(b"abc")
        assert (await client.read_response()).body == b"abc"


async def test_a_chunked_body_with_trailers_arrives_as_such() -> None:
    trailers: list[tuple[bytes, bytes]] = []

    async def handler(exchange: Exchange) -> None:
        body, found = await read_body(exchange)
        trailers.extend(found)
        assert (b"transfer-ENCODING", b"chunked") in exchange.request.headers
        await answer(exchange, body)

    async with open_conductor(handler) as rig, rig.client() as client:
        whole = (
            request("POST", "/", "transfer-ENCODING: chunked")
            + b"3\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 7\r\n\r\n"
        )
        await client.send(whole)
        assert (await client.read_response()).body == b"abcd"
        for byte in whole:
            await client.send(bytes([byte]))
        assert (await client.read_response()).body == b"abcd"
    assert trailers == [(b"X-Sum", b"7")] * 2


async def test_a_large_body_passes_under_credit() -> None:
    size = 3_000_000

    async def handler(exchange: Exchange) -> None:
        body, _ = await read_body(exchange)
        await answer(exchange, body)

    async with open_conductor(handler) as rig, rig.client() as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.send, post(b"z" * size))
        assert (await client.read_response()).body == b"z" * size
        await rig.settled()


async def test_a_streamed_response_is_not_delayed() -> None:
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Content-Type", b"text/event-stream"), (b"Transfer-Encoding", b"chunked"))
        await exchange.send_data(b"first")
        await go_on.wait()
        await exchange.send_data(b"second")
        exchange.send_end([(b"X-Trailer", b"yes")])

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(get())
        assert (await client.read_head()).value(b"content-type") == b"text/event-stream"
        assert await client.read_chunk() == b"first"
        go_on.set()
        assert await client.read_chunk() == b"second"
        assert await client.read_chunk() == b""
        assert await client.read_trailers() == (b"X-Trailer: yes",)
        await client.send(get())
        assert (await client.read_response()).body == b"firstsecond"
        await rig.settled()


async def test_a_head_alone_is_passed_on_at_once() -> None:
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Content-Length", b"2"))
        await go_on.wait()
        await exchange.send_data(b"ok", end=True)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(get())
        assert (await client.read_head()).status == 200
        go_on.set()
        assert await client.take(2) == b"ok"


async def test_a_body_without_length_ends_with_the_connection_and_gets_no_new_header() -> None:
    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"X-A", b"1"))
        await exchange.send_data(b"until the end", end=True)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(get())
        response = await client.read_response()
    assert (response.framing, response.body, response.lines) == ("close", b"until the end", [b"X-A: 1"])


async def test_full_duplex() -> None:
    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
        while True:
            item = await exchange.receive()
            if isinstance(item, Data):
                await exchange.send_data(item.data.upper())
            if item.ended:
                exchange.send_end()
                return

    async with open_conductor(handler) as rig, rig.client() as client:
        for _ in range(2):
            await client.send(request("POST", "/", "Transfer-Encoding: chunked"))
            assert (await client.read_head()).status == 200
            for piece in (b"ping", b"pong"):
                await client.send(b"4\r\n%b\r\n" % piece)
                assert await client.read_chunk() == piece.upper()
            await client.send(b"0\r\n\r\n")
            assert await client.read_chunk() == b""
            await client.read_trailers()
        await rig.settled()


async def test_an_early_answer_comes_while_the_upload_goes_on_and_the_connection_lives() -> None:
    async def handler(exchange: Exchange) -> None:
        await answer(exchange, b"no", 403)
        await read_body(exchange)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(request("POST", "/", "Content-Length: 6"), b"abc")
        assert (await client.read_response()).status == 403
        await client.send(b"def" + get())
        assert (await client.read_response()).status == 403
        await rig.settled()


async def test_an_early_answer_that_gives_the_upload_up_reaches_a_sender_who_only_writes() -> None:
    async def handler(exchange: Exchange) -> None:
        await answer(exchange, b"no", 403)  # and leave: what is unfinished is reset

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(post(b"x" * 1_000_000))
        assert (await client.read_response()).status == 403
        await client.send(get())
        assert (await client.read_response()).status == 403
        await rig.settled()


async def test_the_100_of_the_far_end_is_relayed_and_the_body_follows() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.send_head(Response(100, b"Go On", []))
        body, _ = await read_body(exchange)
        await answer(exchange, body)

    async with open_conductor(handler) as rig, rig.client() as client:
        for _ in range(2):
            await client.send(request("POST", "/", "Content-Length: 3", "Expect: 100-continue"))
            assert (await client.read_response()).start_line == b"HTTP/1.1 100 Go On"
            await client.send(b"abc")
            assert (await client.read_response()).body == b"abc"


async def test_a_refusal_instead_of_100_ends_the_connection_because_the_body_may_or_may_not_come() -> None:
    async def handler(exchange: Exchange) -> None:
        await answer(exchange, b"no", 417)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(request("POST", "/", "Content-Length: 3", "Expect: 100-continue"))
        response = await client.read_response()
        assert (response.status, response.value(b"connection")) == (417, b"close")
        assert await client.ending() == "end"


async def test_informational_responses_are_relayed_but_not_to_http_1_0() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.send_head(Response(103, b"Early Hints", [(b"Link", b"</a>")]))
        exchange.send_head(Response(102, b"Processing", []))
        await answer(exchange)

    async with open_conductor(handler) as rig:
        async with rig.client() as client:
            await client.send(get())
            assert [(await client.read_response()).status for _ in range(3)] == [103, 102, 200]
        async with rig.client() as client:
            await client.send(b"GET / HTTP/1.0\r\nHost: shop.localhost\r\n\r\n")
            assert (await client.read_response()).status == 200


@pytest.mark.parametrize(
    "framing", [(b"Content-Length", b"9"), (b"Transfer-Encoding", b"chunked"), (b"X", b"y")]
)
async def test_a_break_in_the_middle_of_a_response_resets_the_sender(framing: tuple[bytes, bytes]) -> None:
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, framing)
        await exchange.send_data(b"abc")
        await go_on.wait()
        exchange.reset(ResetCode.LOCAL_FAILED)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(get())
        await client.take_until(b"abc")
        go_on.set()
        assert await client.ending() == "reset"
        outcome = await rig.outcome()
        assert (outcome.result, outcome.status) == ("aborted", 200)
        await rig.settled()


async def test_a_sender_that_closes_its_side_after_the_request_gets_its_response() -> None:
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Content-Length", b"4"))
        await exchange.send_data(b"ab")
        await go_on.wait()
        await exchange.send_data(b"cd", end=True)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(get())
        await client.end()
        await client.take_until(b"ab")
        go_on.set()
        assert await client.take(2) == b"cd"
        assert await client.ending() == "end"


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_sender_that_vanishes_in_its_request_resets_the_exchange(how: str) -> None:
    opened = trio.Event()

    async def handler(exchange: Exchange) -> None:
        opened.set()
        await read_body(exchange)

    async with open_conductor(handler) as rig:
        async with rig.client() as client:
            await client.send(request("POST", "/", "Content-Length: 6"), b"abc")
            await opened.wait()
            if how == "reset":
                client.reset()
            else:
                await client.end()
                assert await client.ending() == "end"
        outcome = await rig.outcome()
        assert (outcome.result, outcome.slug, outcome.received) == ("aborted", "sender-gone", 3)
        await rig.settled()


async def test_a_sender_that_vanishes_during_a_streamed_response_resets_the_exchange() -> None:
    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
        await exchange.send_data(b"abc")
        await trio.sleep_forever()

    async with open_conductor(handler) as rig:
        async with rig.client() as client:
            await client.send(get())
            await client.take_until(b"abc")
            client.reset()
        assert (await rig.outcome()).slug == "sender-gone"
        await rig.settled()


async def test_a_sender_that_closes_its_side_of_a_silent_stream_is_not_kept_for_ever() -> None:
    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
        await exchange.send_data(b"abc")
        await trio.sleep_forever()

    async with open_conductor(handler, half_closed_timeout=0.05) as rig, rig.client() as client:
        await client.send(get())
        await client.take_until(b"abc")
        await client.end()
        assert await client.ending() == "reset"
        await rig.settled()


@pytest.mark.parametrize("rest", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["less", "more"])
async def test_a_response_that_does_not_keep_to_its_length_is_cut(rest: bytes) -> None:
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Content-Length", b"3"))
        await exchange.send_data(b"ab")
        await go_on.wait()
        if rest:
            await exchange.send_data(rest)
        exchange.send_end()

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(get())
        await client.take_until(b"ab")
        go_on.set()
        assert await client.ending() == "reset"
        assert not client.buffer
        await rig.settled()


BAD_HEADS = [
    Response(200, b"OK", [(b"X", b"a\r\nSet-Cookie: b")]),
    Response(200, b"OK\r\nX: y", []),
    Response(200, b"OK", [(b"X: y", b"z")]),
    Response(200, b"OK", [(b"", b"z")]),
    Response(200, b"OK", [(b"Content-Length", b"1"), (b"Content-Length", b"1")]),
    Response(200, b"OK", [(b"Content-Length", b"+1")]),
    Response(200, b"OK", [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")]),
    Response(200, b"OK", [(b"Transfer-Encoding", b"chunked"), (b"transfer-encoding", b"chunked")]),
    Response(200, b"OK", [(b"Transfer-Encoding", b"chunked, gzip")]),
    Response(101, b"Switching Protocols", []),
]


@pytest.mark.parametrize("response", BAD_HEADS, ids=repr)
async def test_a_far_end_cannot_smuggle(response: Response) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.send_head(response)
        await exchange.send_data(b"x", end=True)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(get())
        answered = await client.read_response()
        assert (answered.status, b"bad-answer" in answered.body) == (502, True)
        await rig.settled()
