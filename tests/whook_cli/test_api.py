"""POST /v1/tunnels against a real socket: what is sent, and what each answer means."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trio

from tests.support.origin import Origin, reply, response
from whook_cli.api import Grant, Unavailable, check_server, check_token, parse_retry_after, request_tunnel
from whook_cli.exits import Exit, ExitCode, UsageError

GRANT = {
    "websocket_url": "ws://127.0.0.1:8082/v1/tunnel",
    "token": "jwt",
    "project_id": "prj_1",
    "public_url": "http://shop.localhost:8080",
    "expires_at": "2026-01-01T00:00:00Z",
}


@pytest.fixture
def server() -> Iterator[Origin]:
    with Origin() as origin:
        yield origin
        origin.check()


async def ask(server: Origin | str) -> Grant:
    url = server if isinstance(server, str) else server.url
    return await request_tunnel(url, "whk_secret", "shop", "cli_1", watch=True)


def problem(status: bytes, detail: str, *lines: bytes) -> bytes:
    body = json.dumps({"type": "urn:whook:problem:x", "title": "Title", "detail": detail}).encode()
    return response(body, b"Content-Type: application/problem+json", *lines, status=status)


async def test_a_tunnel_is_granted(server: Origin) -> None:
    server.script(reply(response(json.dumps(GRANT | {"more": 1}).encode())))
    assert await ask(server) == Grant(**GRANT)
    request = server.received[0]
    assert request.start_line == b"POST /v1/tunnels HTTP/1.1"
    assert request.value(b"Authorization") == b"Bearer whk_secret"
    assert json.loads(request.body) == {"project": "shop", "instance": "cli_1", "watch": True}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (b"401 Unauthorized", ExitCode.UNAUTHORIZED),
        (b"403 Forbidden", ExitCode.FORBIDDEN),
        (b"400 Bad Request", ExitCode.USAGE),
        (b"422 Unprocessable Content", ExitCode.USAGE),
        (b"404 Not Found", ExitCode.UNREACHABLE),
        (b"409 Conflict", ExitCode.HELD),
        (b"426 Upgrade Required", ExitCode.VERSION),
    ],
)
async def test_refusals_for_good(server: Origin, status: bytes, code: ExitCode) -> None:
    server.script(reply(problem(status, "because\x1b[31m of this")))
    with pytest.raises(Exit) as caught:
        await ask(server)
    assert caught.value.code == code
    assert "because\\x1b[31m of this" in str(caught.value)
    assert "whk_secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        response(b"<html>", status=b"403 Forbidden"),
        response(b"[1]", status=b"401 No"),
        response(b"", status=b"403 F"),
    ],
)
async def test_refusals_without_a_problem_document(server: Origin, answer: bytes) -> None:
    server.script(reply(answer))
    with pytest.raises(Exit):
        await ask(server)


async def test_a_redirect_is_not_followed(server: Origin) -> None:
    server.script(reply(response(b"", b"Location: http://evil.example/", status=b"308 Permanent Redirect")))
    with pytest.raises(Exit, match=r"redirects to http://evil\.example/"):
        await ask(server)
    assert len(server.received) == 1


async def test_what_passes_by_itself(server: Origin) -> None:
    server.script(reply(problem(b"503 Service Unavailable", "no relay", b"Retry-After: 7")))
    with pytest.raises(Unavailable, match="no relay") as caught:
        await ask(server)
    assert (caught.value.answered, caught.value.retry_after) == (True, 7.0)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"websocket_url": 1}', b"\xff"])
async def test_an_answer_that_is_no_tunnel(server: Origin, body: bytes) -> None:
    server.script(reply(response(body)))
    with pytest.raises(Unavailable, match="no tunnel"):
        await ask(server)


async def test_servers_that_cannot_be_reached(server: Origin) -> None:
    closed = Origin()
    with closed:
        pass
    with pytest.raises(Unavailable, match=f"cannot reach {closed.url}: connection refused") as caught:
        await ask(closed)
    assert not caught.value.answered
    with pytest.raises(Unavailable, match="no such host"):
        await ask("http://nowhere.invalid")
    server.script(reply(b"SSH-2.0-x\r\n", close=True))
    with pytest.raises(Unavailable, match="cannot reach"):
        await ask(server)


async def test_a_server_without_tls(nursery: trio.Nursery) -> None:
    async def plain(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await stream.receive_some()

    listeners = await nursery.start(trio.serve_tcp, plain, 0)
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(Unavailable, match="it does not speak TLS"):
        await ask(f"https://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "url", ["http://h", "https://h:8443/whook", "http://[::1]:8081", "http://127.0.0.1:8081/"]
)
def test_servers(url: str) -> None:
    assert check_server(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["", "h", "h:80", "ftp://h", "http://", "http://h:x", "http://u:pw@h", "http://h?x", "http://["]
)
def test_servers_that_are_none(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_server(url)
    assert "pw" not in str(caught.value)


def test_tokens() -> None:
    assert check_token(" whk_x\n", "s") == "whk_x"
    for missing in (None, "", "  "):
        with pytest.raises(Exit) as caught:
            check_token(missing, "s")
        assert caught.value.code == ExitCode.UNAUTHORIZED
    for bad in ("whk secret", "whk_sécret", "whk\nsecret", "whk\x00secret"):
        with pytest.raises(UsageError) as refused:
            check_token(bad, "s")
        assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("0", 0.0), ("120", 120.0), ("soon", None), ("-1", None), ("\uff11", None)],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime.now(UTC)
    assert 50 < (parse_retry_after(format_datetime(now + timedelta(seconds=60), usegmt=True)) or 0) <= 60
    assert parse_retry_after(format_datetime(now - timedelta(days=1), usegmt=True)) == 0
