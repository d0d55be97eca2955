"""A request that comes whole, a response that comes whole, and what is added on the way."""

from __future__ import annotations

from tests.support.async_http import get, post, request
from tests.support.conductor import answer, echo, head, open_conductor, read_body
from whook.chassis.proxy_protocol import SIGNATURE
from whook.link import Exchange
from whook.wire import Request, Response


async def test_a_request_reaches_the_far_end_and_its_answer_comes_back() -> None:
    seen: list[Request] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await echo(exchange)

    async with open_conductor(handler) as rig:
        response = await rig.ask(
            post(b"hello", "/hook?a=1&a=2%20", "X-Odd-CASE:  kept \t", "X-Odd-CASE: twice")
        )
        assert response.start_line == b"HTTP/1.1 200 OK"
        assert response.body == b"hello"
        outcome = await rig.outcome()
    (got,) = seen
    assert (got.method, got.target) == (b"POST", b"/hook?a=1&a=2%20")
    assert got.headers == [
        (b"Host", b"shop.localhost"),
        (b"X-Odd-CASE", b"kept"),
        (b"X-Odd-CASE", b"twice"),
        (b"Content-Length", b"5"),
        (b"Whook-Event-Id", got.event_id.encode()),
        (b"Whook-Attempt", b"1"),
        (b"X-Forwarded-For", b"127.0.0.1"),
        (b"X-Forwarded-Host", b"shop.localhost"),
        (b"X-Forwarded-Proto", b"http"),
        (b"Via", b"1.1 whook"),
    ]
    assert (got.attempt, got.scheme, got.client, got.deadline_ms) == (1, "http", "127.0.0.1", 30_000)
    assert (outcome.event_id, outcome.result, outcome.status) == (got.event_id, "answered", 200)
    assert (outcome.received, outcome.sent, outcome.project) == (5, 5, "shop")
    assert 0 <= outcome.to_head <= outcome.duration


async def test_the_response_is_passed_on_as_it_came() -> None:
    async def handler(exchange: Exchange) -> None:
        headers = [(b"content-LENGTH", b"2"), (b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"), (b"X-Empty", b"")]
        exchange.send_head(Response(299, b"Fine  thanks", headers))
        await exchange.send_data(b"ok", end=True)

    async with open_conductor(handler) as rig:
        response = await rig.ask(get())
    assert response.start_line == b"HTTP/1.1 299 Fine  thanks"
    assert response.lines == [b"content-LENGTH: 2", b"Set-Cookie: a", b"Set-Cookie: b", b"X-Empty: "]


async def test_hop_by_hop_fields_end_at_each_hop() -> None:
    seen: list[Request] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request)
        head(
            exchange,
            200,
            (b"Content-Length", b"0"),
            (b"Connection", b"X-Hop"),
            (b"X-Hop", b"1"),
            (b"Keep-Alive", b"2"),
            end=True,
        )

    async with open_conductor(handler) as rig:
        response = await rig.ask(
            get("/", "Connection: keep-alive, X-Mine", "X-Mine: 1", "TE: trailers, gzip")
        )
    assert response.lines == [b"Content-Length: 0"]
    names = [name for name, _ in seen[0].headers]
    assert b"X-Mine" not in names
    assert b"Connection" not in names
    assert (b"TE", b"trailers") in seen[0].headers


async def test_several_requests_use_one_connection() -> None:
    async with open_conductor() as rig, rig.client() as client:
        for number in range(5):
            await client.send(post(b"%d" % number))
            assert (await client.read_response()).body == b"%d" % number


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def handler(exchange: Exchange) -> None:
        await read_body(exchange)
        await answer(exchange, exchange.request.target)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(b"".join(post(b"x" * number, f"/{number}") for number in range(20)))
        for number in range(20):
            assert (await client.read_response()).body == b"/%d" % number
        await rig.settled()


async def test_head_has_the_length_and_no_body() -> None:
    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Content-Length", b"1234"), end=True)

    async with open_conductor(handler) as rig, rig.client() as client:
        for _ in range(2):
            await client.send(request("HEAD", "/"))
            assert (await client.read_response(b"HEAD")).value(b"content-length") == b"1234"


async def test_204_and_304_have_no_body_and_keep_the_connection() -> None:
    async def handler(exchange: Exchange) -> None:
        head(exchange, int(exchange.request.target[1:]), end=True)

    async with open_conductor(handler) as rig, rig.client() as client:
        for status in (204, 304, 204):
            await client.send(get(f"/{status}"))
            assert (await client.read_response()).status == status


async def test_a_sender_that_asks_for_the_end_gets_it() -> None:
    async with open_conductor() as rig, rig.client() as client:
        await client.send(get("/", "Connection: close"))
        response = await client.read_response()
        assert response.value(b"connection") == b"close"
        assert await client.ending() == "end"


async def test_http_1_0_without_and_with_keep_alive() -> None:
    async with open_conductor() as rig:
        async with rig.client() as client:
            await client.send(b"GET / HTTP/1.0\r\nHost: shop.localhost\r\n\r\n")
            response = await client.read_response()
            assert response.values(b"connection") == []
            assert await client.ending() == "end"
        async with rig.client() as client:
            for _ in range(2):
                await client.send(b"GET / HTTP/1.0\r\nHost: shop.localhost\r\nConnection: keep-alive\r\n\r\n")
                assert (await client.read_response()).value(b"connection") == b"keep-alive"


async def test_a_chunked_response_to_http_1_0_ends_with_the_connection() -> None:
    async def handler(exchange: Exchange) -> None:
        head(exchange, 200, (b"Transfer-Encoding", b"chunked"))
        await exchange.send_data(b"data", end=True)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(b"GET / HTTP/1.0\r\nHost: shop.localhost\r\nConnection: keep-alive\r\n\r\n")
        response = await client.read_response()
    assert (response.framing, response.body, response.lines) == ("close", b"data", [])


async def test_projects_are_found_by_path_when_switched_on() -> None:
    async def handler(exchange: Exchange) -> None:
        await answer(exchange, exchange.request.target)

    async with open_conductor(handler, path_prefix="/p/") as rig:
        assert (await rig.ask(get("/p/shop/hook?a=1", host="10.0.0.1:80"))).body == b"/hook?a=1"
        assert (await rig.ask(get("/p/shop?a=1", host="localhost"))).body == b"/?a=1"
        assert (await rig.ask(get("/p/shop/x"))).body == b"/p/shop/x", "a project's own host comes first"
        assert (await rig.ask(get("/p/other/", host="localhost"))).status == 404
        assert rig.ports.public_url("shop").endswith("/p/shop")


async def test_a_trusted_proxy_speaks_for_the_sender() -> None:
    seen: list[Request] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await answer(exchange)

    async with open_conductor(handler, trusted_proxies=["127.0.0.0/8"]) as rig:
        forwarded = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https"]
        assert (await rig.ask(get("/", *forwarded))).status == 200
    (got,) = seen
    assert (got.client, got.scheme) == ("203.0.113.9", "https")
    fields = [(name, value) for name, value in got.headers if name.startswith(b"X-Forwarded-")]
    assert fields == [
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-For", b"127.0.0.1"),
        (b"X-Forwarded-Host", b"shop.localhost"),
    ]


async def test_the_sender_is_the_last_who_is_no_proxy() -> None:
    seen: list[Request] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await answer(exchange)

    lines = [
        ["X-Forwarded-For: 198.51.100.1, 203.0.113.9, 10.0.0.1", "X-Forwarded-For: 10.0.0.2"],
        ["X-Forwarded-For: 10.0.0.1, 10.0.0.2"],
        ["X-Forwarded-For: evil"],
    ]
    async with open_conductor(handler, trusted_proxies=["127.0.0.0/8", "10.0.0.0/8"]) as rig:
        for forwarded in lines:
            assert (await rig.ask(get("/", *forwarded))).status == 200
    assert [request.client for request in seen] == ["203.0.113.9", "10.0.0.1", "evil"]


async def test_the_proxy_protocol_names_the_sender_and_its_scheme() -> None:
    seen: list[Request] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.request)
        await answer(exchange)

    block = bytes([203, 0, 113, 9, 192, 0, 2, 1]) + b"\x12\x67\x01\xbb" + b"\x20\x00\x05\x01\x00\x00\x00\x00"
    header = SIGNATURE + b"\x21\x11" + len(block).to_bytes(2, "big") + block
    settings = {"trusted_proxies": ["127.0.0.0/8"], "proxy_protocol": "v2"}
    async with open_conductor(handler, **settings) as rig:
        spoofed = get("/", "X-Forwarded-For: 198.51.100.1", "X-Forwarded-Proto: gopher")
        assert (await rig.ask(header + spoofed)).status == 200
    (got,) = seen
    assert (got.client, got.scheme) == ("203.0.113.9", "https")
    fields = [(name, value) for name, value in got.headers if name.startswith(b"X-Forwarded-")]
    assert fields == [
        (b"X-Forwarded-For", b"198.51.100.1"),
        (b"X-Forwarded-Proto", b"gopher"),
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"X-Forwarded-Host", b"shop.localhost"),
        (b"X-Forwarded-Proto", b"https"),
    ]
