"""serve_asgi on real sockets: answers, bounds, clients that go away, and clients that stop reading."""

import math
from typing import Any

import pytest
import trio
from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from structlog.testing import capture_logs

from tests.support.asgi import Client, client_of, echo, flood, read_body, respond, serving
from whook.chassis import metrics
from whook.chassis.asgi import App


async def test_answers_and_keeps_the_connection() -> None:
    async with client_of(echo) as client:
        for body in (b"", b"hello", b"x" * 200_000):
            answer = await client.request(f"POST / HTTP/1.1\nContent-Length: {len(body)}\n", body)
            assert (answer.status, answer.body) == (200, body)
            assert "server" not in answer.headers


async def test_takes_chunks_of_any_size() -> None:
    async with client_of(echo) as client:
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in b"abc" * 2000) + b"0\r\n\r\n"
        answer = await client.request("POST / HTTP/1.1\nTransfer-Encoding: chunked\n", chunks)
        assert answer.body == b"abc" * 2000


async def test_expect_continue() -> None:
    async with client_of(echo) as client:
        await client.stream.send_all(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await client._until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await client.stream.send_all(b"hi")
        assert (await client.answer()).body == b"hi"


async def test_serves_fastapi() -> None:
    app = FastAPI()
    done = trio.Event()
    checked = trio.Event()

    @app.post("/double/{number}")
    async def double(number: int, body: dict[str, int], background: BackgroundTasks) -> dict[str, int]:
        async def later() -> None:
            await checked.wait()  # the response has long been sent, and reported as over
            done.set()

        background.add_task(later)
        return {"double": number * body["times"]}

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"x" * 100_000] * 3), headers={"content-length": "300000"})

    async with client_of(app) as client:
        head = "POST /double/21 HTTP/1.1\nContent-Type: application/json\nContent-Length: 11\n"
        answer = await client.request(head, b'{"times":2}')
        assert answer.body == b'{"double":42}'
        checked.set()
        await done.wait()
        assert len((await client.request("GET /stream HTTP/1.1\n")).body) == 300_000


@pytest.mark.parametrize("end", ["drain", "cancel"])
async def test_a_client_that_stops_reading_does_not_hold_up_the_end(end: str) -> None:
    sending = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sending.set()
        await flood(scope, receive, send)

    # The send timeout alone would never end it.
    async with serving(app, grace=0.2, send_timeout=math.inf) as server, await server.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await sending.wait()
        await trio.testing.wait_all_tasks_blocked()  # the app is sending
        if end == "drain":
            server.drain.begin("test")
        else:
            server.scope.cancel(reason="test")
        await server.returned.wait()


async def test_a_client_that_stops_reading_loses_its_connection() -> None:
    ended = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await flood(scope, receive, send)
        finally:
            ended.set()

    async with serving(app, send_timeout=0.1) as server, await server.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await ended.wait()


async def test_a_client_that_goes_away_cancels_the_app() -> None:
    started, cancelled = trio.Event(), trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.set()  # and never asks for the body, nor for the disconnect
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(app) as server:
        stream = await server.connect()
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        await started.wait()
        await stream.aclose()
        await cancelled.wait()
    assert 'whook_api_requests_total{listener="test",status="0"}' in metrics.render().decode()


async def test_the_app_is_told_of_the_disconnect() -> None:
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        await respond(send, b"")
        told.append((await receive())["type"])
        told.append((await receive())["type"])

    async with client_of(app) as client:
        await client.request("GET / HTTP/1.1\n")
    assert told == ["http.disconnect", "http.disconnect"]


async def test_an_unread_body_blocks_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"ok")

    async with client_of(app) as client:
        for _ in range(3):
            answer = await client.request("POST / HTTP/1.1\nContent-Length: 900000\n", b"x" * 900_000)
            assert answer.body == b"ok"
            assert answer.headers.get("connection") != "close"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 2000\n", b"x" * 2000),
        ("Transfer-Encoding: chunked\n", b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n"),
        ("Content-Length: 3000000\n", b"x" * 3_000_000),
    ],
)
async def test_refuses_bodies_that_are_too_large(head: str, body: bytes) -> None:
    async with client_of(echo, body=1999) as client:
        answer = await client.request(f"POST / HTTP/1.1\n{head}", body)
        assert (answer.status, answer.problem) == (413, "urn:whook:problem:body-too-large")
        answer = await client.request("POST / HTTP/1.1\nContent-Length: 2\n", b"hi")
        assert answer.body == b"hi"


async def test_a_body_too_large_in_mid_response_ends_the_connection() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await read_body(receive)
        await send({"type": "http.response.body", "body": b"accepted!"})

    async with client_of(app, body=10) as client:
        await client.stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n")
        assert b"200" in await client._until(b"\r\n\r\n")
        await client.stream.send_all(b"x" * 20)
        assert await client.closed()


async def test_refuses_bodies_that_do_not_arrive() -> None:
    async with client_of(echo, body_timeout=0.1) as client:
        answer = await client.request("POST / HTTP/1.1\nContent-Length: 20\n", b"x")
        assert (answer.status, answer.problem) == (408, "urn:whook:problem:body-timeout")
        assert await client.closed()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHo"])
async def test_closes_connections_without_a_request(sent: bytes) -> None:
    async with client_of(echo, idle_timeout=0.1) as client:
        await client.stream.send_all(sent)
        assert await client.closed()


async def test_closes_idle_connections_when_the_drain_begins() -> None:
    async with serving(echo) as server, await server.connect() as first, await server.connect() as second:
        used, unused = Client(first), Client(second)
        await used.request("GET / HTTP/1.1\n")
        server.drain.begin("test")
        assert await used.closed()
        assert await unused.closed()
        await server.returned.wait()


async def test_requests_finish_while_draining() -> None:
    started, go_on = trio.Event(), trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        await go_on.wait()
        await respond(send, b"done")

    async with serving(app) as server, await server.connect() as stream:
        client = Client(stream)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert (await client.request("GET / HTTP/1.1\n")).body == b"done"
                assert await client.closed()

            nursery.start_soon(ask)
            await started.wait()
            server.drain.begin("test")
            go_on.set()
        await server.returned.wait()


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("boom")


async def fails_in_a_nursery(scope: Any, receive: Any, send: Any) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise RuntimeError("boom")


async def says_nothing(scope: Any, receive: Any, send: Any) -> None:
    await receive()


@pytest.mark.parametrize("app", [fails, fails_in_a_nursery, says_nothing])
async def test_answers_for_apps_that_fail(app: App) -> None:
    with capture_logs() as logs:
        async with client_of(app) as client:
            for _ in range(2):
                answer = await client.request("GET / HTTP/1.1\n")
                assert (answer.status, answer.problem) == (500, "urn:whook:problem:internal-error")
                assert b"boom" not in answer.body
    assert [entry["event"] for entry in logs] == ([] if app is says_nothing else ["request failed"] * 2)


@pytest.mark.parametrize("how", ["raises", "returns"])
async def test_a_response_that_ends_too_early_is_cut_off(how: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if how == "raises":
            raise RuntimeError("boom")

    with capture_logs():
        async with client_of(app) as client:
            await client.stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await client._until(b"half")
            rest = client.buffer
            try:
                async for data in client.stream:
                    rest += data
            except trio.BrokenResourceError:
                pass
            assert b"0\r\n\r\n" not in rest  # the last chunk would make it look whole


async def test_limits_connections() -> None:
    async with serving(echo, connections=1) as server, await server.connect() as first:
        await Client(first).request("GET / HTTP/1.1\n")
        async with await server.connect() as second:
            answer = await Client(second).answer()
            assert (answer.status, answer.problem) == (503, "urn:whook:problem:overloaded")
            assert answer.headers["retry-after"] == "1"


async def test_refuses_heads_that_are_too_large() -> None:
    async with client_of(echo, head=1000) as client:
        await client.stream.send_all(b"GET / HTTP/1.1\r\nX: " + b"x" * 2000)
        assert (await client.answer()).status == 431


async def test_refuses_what_is_not_http() -> None:
    async with client_of(echo) as client:
        await client.stream.send_all(b"\x16\x03\x01 nonsense\r\n\r\n")
        assert (await client.answer()).status == 400
        assert await client.closed()


async def test_does_not_speak_http2() -> None:
    async with client_of(echo) as client:
        settings = b"\0\0\0\x04\0\0\0\0\0"
        # HEADERS on stream 1 by HPACK's static table: GET, http, /.
        headers = b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84"
        await client.stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + headers)
        while not await client.closed():
            pass  # its own SETTINGS may come first


async def test_websockets_pass_through() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    async with client_of(app) as client:
        await client.stream.send_all(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 101 " in await client._until(b"\r\n\r\n")
