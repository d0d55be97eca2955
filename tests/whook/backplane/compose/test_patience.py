"""A daemon that starts before its PostgreSQL: it waits, says so, and serves when the database is there."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.support.cluster import free_ports
from tests.support.deadlines import DEADLINE
from tests.support.postgres import Postgres
from tests.support.whook_process import WhookProcess
from whook.backplane.compose.command import StoppedWaiting
from whook.backplane.compose.patience import open_awaited_database
from whook.backplane.ports import Unavailable
from whook.backplane.sql import AUTH, SqlAuthStore, migrate_database
from whook.chassis.daemon import Daemon
from whook.chassis.drain import Drain


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is taken, and at which nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    async for piece in source:
        await sink.send_all(piece)


async def forward(stream: trio.SocketStream, port: int) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as other, trio.open_nursery() as nursery:
        nursery.start_soon(pump, stream, other)
        await pump(other, stream)
        nursery.cancel_scope.cancel()


async def test_it_is_unready_until_the_database_is_there(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whook.backplane.compose.patience.FIRST_PAUSE", 0.01)
    real = postgres.database_of(tmp_path)
    await migrate_database(real, AUTH)
    (port,) = free_ports(1)
    away = real.replace(f":{postgres.port}/", f":{port}/")
    assert away != real
    daemon = Daemon("test", Drain())
    opened = trio.Event()

    async def use() -> None:
        async with open_awaited_database(away, AUTH, daemon) as database:
            assert await SqlAuthStore(database).accounts() == []
            assert "database" not in daemon.readiness.evaluate()
            opened.set()

    async def reason() -> str:
        while not (found := daemon.readiness.evaluate().get("database")):
            await trio.testing.wait_all_tasks_blocked(0.01)
        return str(found)

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            assert "does not answer" in await reason()
            await nursery.start(
                partial(trio.serve_tcp, partial(forward, port=postgres.port), port, host="127.0.0.1")
            )
            await opened.wait()
            nursery.cancel_scope.cancel()


async def test_a_drain_ends_the_waiting(port: int) -> None:
    daemon = Daemon("test", Drain())
    daemon.drain.begin("the test says so")
    with pytest.raises(StoppedWaiting):
        async with open_awaited_database(f"postgresql://me:SECRET@127.0.0.1:{port}/x", AUTH, daemon):
            raise AssertionError("there is none")


async def test_a_file_that_cannot_be_used_is_not_awaited(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable):
        async with open_awaited_database(
            f"sqlite:///{tmp_path}/file/x.sqlite3", AUTH, Daemon("test", Drain())
        ):
            raise AssertionError("there is none")


def test_a_daemon_that_waits_says_so_and_ends_in_good_order(tmp_path: Path, port: int) -> None:
    env = {
        "WHOOK_BACKPLANE_URL": "memory:",
        "WHOOK_BACKPLANE_SERVICE_KEY": "k" * 32,
        "WHOOK_BACKPLANE_AUTH_DATABASE": f"postgresql://me:SECRET@127.0.0.1:{port}/x",
        "WHOOK_AUTH_LISTEN": "127.0.0.1:0",
        "WHOOK_DAEMON_ADMIN": "",
    }
    process = WhookProcess(home=tmp_path, env=env, module="whook_auth.main")
    with process:
        process.wait_log("waiting for the database", seconds=2 * DEADLINE)
        process.send(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
        assert "SECRET" not in process.story()
