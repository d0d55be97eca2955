"""The database under the stores: transactions, one writer, readers beside it, outages told from bugs."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio
from sqlalchemy.exc import IntegrityError, OperationalError

from tests.support.deadlines import Gate
from whook.backplane.ports import Unavailable
from whook.backplane.sql import CONDUCTOR, Database, open_database, sqlite_url
from whook.backplane.sql import sqlite as sqlite_module
from whook.backplane.sql.projects import projects

INSERT = sa.text("INSERT INTO projects (id, name, created_at) VALUES (:name, :name, '2026-01-01 00:00:00')")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database, None]:
    async with open_database(sqlite_url(tmp_path / "x.db"), CONDUCTOR) as opened:
        yield opened


def insert(connection: sa.Connection, name: str) -> None:
    connection.execute(INSERT, {"name": name})


def names(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(sa.select(projects.c.name).order_by(projects.c.name)))


async def test_an_exception_rolls_back(database: Database) -> None:
    def work(connection: sa.Connection) -> None:
        insert(connection, "a")
        raise KeyError("x")

    with pytest.raises(KeyError):
        await database.write(work)
    assert await database.read(names) == []


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable, match="readonly"):
        await database.read(lambda connection: insert(connection, "a"))


async def test_readers_do_not_wait_for_the_writer(database: Database) -> None:
    inserted, go_on = Gate("inserted"), Gate("go on")

    def work(connection: sa.Connection) -> None:
        insert(connection, "a")
        inserted.open()
        go_on.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, work)
        await trio.to_thread.run_sync(inserted.wait)
        assert await database.read(names) == []
        go_on.open()
    assert await database.read(names) == ["a"]


async def test_writers_take_turns_in_one_connection(database: Database) -> None:
    within = 0
    most = 0
    lock = threading.Lock()
    connections: set[int] = set()

    def work(connection: sa.Connection) -> None:
        nonlocal within, most
        with lock:
            within += 1
            most = max(most, within)
        connections.add(id(connection.connection.dbapi_connection))
        insert(connection, f"n{len(names(connection))}")
        with lock:
            within -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(database.write, work)
    assert most == 1
    assert len(connections) == 1
    assert len(await database.read(names)) == 20


async def test_a_waiting_writer_can_be_cancelled(database: Database) -> None:
    begun, go_on = Gate("begun"), Gate("go on")

    def work(connection: sa.Connection) -> None:
        begun.open()
        go_on.wait()
        insert(connection, "a")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.write, work)
        await trio.to_thread.run_sync(begun.wait)
        with trio.CancelScope() as scope:
            scope.cancel()
            await database.write(lambda connection: insert(connection, "b"))
        assert scope.cancelled_caught
        go_on.open()
    assert await database.read(names) == ["a"]


async def test_a_locked_database_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_module, "BUSY_SECONDS", 0.05)
    async with open_database(sqlite_url(tmp_path / "x.db"), CONDUCTOR) as database:
        other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"conductor database .*locked"):
            await database.write(lambda connection: insert(connection, "a"))
        assert await database.read(names) == []
        other.execute("ROLLBACK")
        other.close()
        await database.write(lambda connection: insert(connection, "a"))
        assert await database.read(names) == ["a"]


async def test_a_current_database_opens_while_another_writes(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path / "x.db"), CONDUCTOR):
        pass
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with open_database(sqlite_url(tmp_path / "x.db"), CONDUCTOR) as database:
        assert await database.read(names) == []
    other.close()


async def test_a_bug_is_not_an_outage(database: Database) -> None:
    with pytest.raises(OperationalError, match="no such table"):
        await database.read(lambda connection: connection.execute(sa.text("SELECT * FROM missing")))
    await database.write(lambda connection: insert(connection, "a"))
    with pytest.raises(IntegrityError):
        await database.write(lambda connection: insert(connection, "a"))


async def test_a_file_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot use the database file"):
        async with open_database(sqlite_url(tmp_path / "file" / "x.db"), CONDUCTOR):
            pass


async def test_a_file_that_is_no_database_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database" * 100)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        async with open_database(sqlite_url(tmp_path / "x.db"), CONDUCTOR):
            pass
    assert (tmp_path / "x.db").read_bytes() == b"not a database" * 100


async def test_only_its_owner_can_read_the_files(tmp_path: Path) -> None:
    path = tmp_path / "data" / "x.db"
    async with open_database(sqlite_url(path), CONDUCTOR) as database:
        await database.write(lambda connection: insert(connection, "a"))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["x.db", "x.db-shm", "x.db-wal"], 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_it_is_safe_against_power_cuts_and_wrong_references(database: Database) -> None:
    def pragmas(connection: sa.Connection) -> tuple[object, ...]:
        return tuple(
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        )

    assert await database.write(pragmas) == ("wal", 2, 1)
    assert await database.read(pragmas) == ("wal", 2, 1)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://me:secret@host/x"])
async def test_other_databases_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(ValueError, match="cannot use") as refused:
        async with open_database(url, CONDUCTOR):
            pass
    assert "secret" not in str(refused.value)
