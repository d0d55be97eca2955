"""`whook connect` as a process, against a relay that the test plays: exit codes, signals, output."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.far_end import Accepted, FarEnd, open_far_end, read, request
from tests.support.origin import Origin, Turn, reply, response
from tests.support.whook_process import WhookProcess, clean_environment
from whook.wire import GoAway, GoAwayCode
from whook_cli.exits import ExitCode

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on POSIX")


class Server:
    """The API and the relay that the process talks to."""

    def __init__(self, api: Origin, far_end: FarEnd, home: Path) -> None:
        self.api = api
        self.far_end = far_end
        self.home = home

    def grant(self, turn: Turn) -> None:
        turn.read()
        grant = {
            "websocket_url": self.far_end.url,
            "token": "jwt_secret",
            "project_id": "prj_1",
            "public_url": "http://shop.localhost:8080",
            "expires_at": "2099-01-01T00:00:00Z",
        }
        turn.send(response(json.dumps(grant).encode()))

    @asynccontextmanager
    async def connected(self, *options: str) -> AsyncGenerator[tuple[WhookProcess, Accepted]]:
        """Run `whook connect shop` with a tunnel that is up."""
        command = ("connect", "shop", "--server", self.api.url, *options)
        process = WhookProcess(*command, home=self.home, env={"WHOOK_TOKEN": "whk_secret"})
        try:
            yield process, await self.far_end.wait_tunnel(len(self.far_end.tunnels))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + DEADLINE):
                await trio.to_thread.run_sync(process.kill)
        assert "secret" not in process.story()

    async def run(self, *options: str) -> subprocess.CompletedProcess[bytes]:
        """Run `whook connect shop` to its end."""
        command = [sys.executable, "-m", "whook_cli", "connect", "shop", "--server", self.api.url, *options]
        environment = clean_environment(self.home) | {"WHOOK_TOKEN": "whk_secret"}
        with trio.fail_after(DEADLINE):
            return await trio.run_process(
                command, capture_stdout=True, capture_stderr=True, check=False, cwd=self.home, env=environment
            )


def say_nothing(turn: Turn) -> None:
    assert turn.peer.at_end()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    with Origin() as api:
        async with open_far_end() as far_end:
            made = Server(api, far_end, tmp_path)
            api._otherwise = made.grant
            yield made


T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    with trio.fail_after(DEADLINE):
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


async def test_requests_and_one_signal(server: Server) -> None:
    async with server.connected("--json") as (process, tunnel):
        await in_thread(partial(process.wait_event, "ready"))
        answered = await read(tunnel.open(request(event_id="evt_7"), b"{}"))
        assert json.loads(answered.body) == {"event_id": "evt_7"}
        seen = await in_thread(partial(process.wait_event, "request", event_id="evt_7"))
        assert (seen["status"], seen["request_bytes"], seen["target"]) == (200, 2, "/hook")
        process.terminate()
        assert await in_thread(partial(process.wait)) == ExitCode.OK
    assert tunnel.opener.goaway is not None
    assert tunnel.opener.goaway.code == GoAwayCode.DRAIN


async def test_lines_for_people(server: Server) -> None:
    async with server.connected("--verbose", "--respond", "418", "--respond-body", "tea") as (
        process,
        tunnel,
    ):
        answered = await read(tunnel.open(request(target=b"/a?b"), b'{"a":[1]}'))
        assert (answered.status, answered.body) == (418, b"tea")
        process._process.send_signal(signal.SIGINT)
        assert await in_thread(partial(process.wait)) == ExitCode.OK
        story = "\n".join(process.output)
        assert "http://shop.localhost:8080 → shown here, answered 418" in story
        assert "POST   /a?b" in story
        assert "  > Host: shop.example" in story
        assert '      "a": [' in story
        assert "  < 418 I'm a Teapot" in story
        assert process.errors == []


async def test_the_second_signal_stops_at_once(server: Server, tmp_path: Path) -> None:
    with Origin() as silent:
        silent.script(say_nothing)
        options = ("--json", "--drain-timeout", "600", "--forward", silent.url)
        async with server.connected(*options) as (process, tunnel):
            tunnel.open(request())
            await in_thread(partial(silent.wait_seen, 1))
            process.terminate()
            await in_thread(partial(process.wait_event, "draining", running=1))
            process.terminate()
            assert await in_thread(partial(process.wait)) == ExitCode.INTERRUPTED
            assert process.errors[-1] == "whook: stopped at once; requests in progress were cut off"


async def test_a_drain_ends_by_its_deadline(server: Server) -> None:
    with Origin() as silent:
        silent.script(say_nothing)
        options = ("--json", "--drain-timeout", "0.1", "--forward", silent.url)
        async with server.connected(*options) as (process, tunnel):
            tunnel.open(request())
            await in_thread(partial(silent.wait_seen, 1))
            process.terminate()
            assert await in_thread(partial(process.wait)) == ExitCode.OK


async def test_a_killed_client_is_noticed_at_once(server: Server) -> None:
    async with server.connected() as (process, tunnel):
        process.kill()
        with trio.fail_after(DEADLINE):
            await tunnel.closed.wait()


async def test_an_output_that_nobody_reads_any_more_ends_it(server: Server) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "whook_cli", "connect", "shop", "--server", server.api.url]
    environment = clean_environment(server.home) | {"WHOOK_TOKEN": "whk_secret"}
    with trio.fail_after(DEADLINE):
        done = await trio.run_process(
            command, stdout=writer, capture_stderr=True, check=False, cwd=server.home, env=environment
        )
    os.close(writer)
    assert done.returncode == ExitCode.OK
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (b"401 Unauthorized", ExitCode.UNAUTHORIZED, b"refuses the token: because"),
        (b"403 Forbidden", ExitCode.FORBIDDEN, b"project shop is not yours: because"),
        (b"422 Unprocessable", ExitCode.USAGE, b"refuses the project shop: because"),
    ],
)
async def test_refusals_of_the_api(server: Server, status: bytes, code: ExitCode, said: bytes) -> None:
    server.api.script(reply(response(b'{"detail": "because"}', status=status)))
    done = await server.run()
    assert (done.returncode, done.stdout) == (code, b"")
    assert said in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b"secret" not in done.stderr


@pytest.mark.parametrize(
    ("goaway", "code"), [(GoAwayCode.HELD, ExitCode.HELD), (GoAwayCode.VERSION, ExitCode.VERSION)]
)
async def test_refusals_of_the_relay(server: Server, goaway: GoAwayCode, code: ExitCode) -> None:
    server.far_end.refuse = GoAway(goaway, "project shop is held by bob@desk")
    done = await server.run()
    assert done.returncode == code
    assert done.stderr.startswith(b"whook: project shop is held by bob@desk (")
    if code == ExitCode.HELD:
        assert b"--takeover" in done.stderr
        assert b"--watch" in done.stderr


async def test_a_server_that_is_not_there(server: Server) -> None:
    server.api.close()
    done = await server.run()
    assert done.returncode == ExitCode.UNREACHABLE
    assert done.stderr.startswith(f"whook: cannot reach {server.api.url}: connection refused".encode())


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = ("--api-port", "0", "--tunnel-port", "0", "--admin-port", "0", "--auth-port", "0")
        command = ("serve", "--port", str(port), *ports, "--data-dir", str(tmp_path / "data"))
        with WhookProcess(*command, home=tmp_path) as process:
            assert process.wait() == ExitCode.SERVER
            assert process.errors[-1].startswith("whook: ")
            assert str(port) in process.errors[-1]
            assert not any("Traceback" in line for line in process.errors)
