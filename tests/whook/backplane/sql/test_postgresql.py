"""PostgreSQL: migrations by command and from many processes at once, outages, limits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import trio
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.support.deadlines import DEADLINE
from tests.support.postgres import Postgres, running_postgres
from whook.backplane.ports import Unavailable
from whook.backplane.sql import (
    AUTH,
    CONDUCTOR,
    Database,
    Schema,
    SchemaRefused,
    auth,
    check_url,
    migrate_database,
    open_database,
    projects,
)
from whook.backplane.sql import postgresql as postgresql_module

BOTH = pytest.mark.parametrize("schema", [CONDUCTOR, AUTH], ids=lambda schema: schema.name)
METADATA = {"conductor": projects.metadata, "auth": auth.metadata}


@pytest.fixture
def url(postgres: Postgres, tmp_path: Path) -> str:
    return postgres.database_of(tmp_path)


@pytest.fixture
async def database(url: str) -> AsyncGenerator[Database, None]:
    await migrate_database(url, CONDUCTOR)
    async with open_database(url, CONDUCTOR) as opened:
        yield opened


def scalar(statement: str) -> object:
    def work(connection: sa.Connection) -> object:
        return connection.exec_driver_sql(statement).scalar()

    return work


def insert(connection: sa.Connection) -> None:
    connection.exec_driver_sql("INSERT INTO projects VALUES ('prj_a', 'a', now())")


@BOTH
async def test_a_daemon_does_not_migrate(schema: Schema, url: str) -> None:
    with pytest.raises(SchemaRefused, match=f"no tables yet: run `whook-{schema.name} migrate`"):
        async with open_database(url, schema):
            pass
    assert await migrate_database(url, schema) is True
    assert await migrate_database(url, schema) is False
    async with open_database(url, schema):
        pass


@BOTH
async def test_migrations_make_the_tables_that_the_stores_use(schema: Schema, url: str) -> None:
    await migrate_database(url, schema)
    async with open_database(url, schema) as opened:

        def differences(connection: sa.Connection) -> list[object]:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            return list(compare_metadata(context, METADATA[schema.name]))

        assert await opened.read(differences) == []


async def test_an_older_schema_is_refused_with_the_mend(url: str) -> None:
    await migrate_database(url, AUTH)
    later = Schema("auth", (*AUTH.revisions, "auth_9999"))
    with pytest.raises(SchemaRefused, match="older than auth_9999: run `whook-auth migrate`"):
        async with open_database(url, later):
            pass


@pytest.mark.parametrize("migrating", [True, False])
async def test_a_newer_schema_is_refused_and_left_alone(
    migrating: bool, url: str, postgres: Postgres
) -> None:
    await migrate_database(url, AUTH)
    postgres.execute(url, "UPDATE alembic_version SET version_num = 'auth_9999'")

    async def use() -> None:
        if migrating:
            await migrate_database(url, AUTH)
        else:
            async with open_database(url, AUTH):
                pass

    with pytest.raises(SchemaRefused, match=r"newer than .* upgrade whook"):
        await use()
    assert postgres.execute(url, "SELECT version_num FROM alembic_version") == [("auth_9999",)]


async def test_others_databases_are_refused(url: str, postgres: Postgres) -> None:
    postgres.execute(url, "CREATE TABLE theirs (x int)")
    with pytest.raises(SchemaRefused, match="not a whook database"):
        await migrate_database(url, CONDUCTOR)
    postgres.execute(url, "DROP TABLE theirs")
    await migrate_database(url, CONDUCTOR)
    with pytest.raises(SchemaRefused, match="not the auth database"):
        await migrate_database(url, AUTH)


PROGRAM = """
import sys, trio
from whook.backplane.sql import AUTH, migrate_database
print("ready", flush=True)
sys.stdin.readline()
print(trio.run(migrate_database, sys.argv[1], AUTH), flush=True)
"""


def test_several_processes_at_once(url: str, postgres: Postgres) -> None:
    programs = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    ends = [program.communicate(timeout=DEADLINE) for program in programs]
    assert [errors for _, errors in ends] == [""] * 4
    assert sorted(out for out, _ in ends) == ["False\n"] * 3 + ["True\n"]
    assert postgres.execute(url, "SELECT version_num FROM alembic_version") == [(AUTH.head,)]


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(Unavailable, match="read-only"):
        await database.read(insert)
    assert await database.read(scalar("SELECT count(*) FROM projects")) == 0
    await database.write(insert)
    assert await database.read(scalar("SELECT count(*) FROM projects")) == 1


async def test_a_bug_is_not_an_outage(database: Database) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="does not exist"):
        await database.read(scalar("SELECT * FROM missing"))
    await database.write(insert)
    with pytest.raises(sa.exc.IntegrityError):
        await database.write(insert)


async def test_what_takes_too_long_is_ended(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_module, "STATEMENT_SECONDS", 0.05)
    await migrate_database(url, CONDUCTOR)
    async with open_database(url, CONDUCTOR) as database:
        with pytest.raises(Unavailable, match="statement timeout"):
            await database.read(scalar("SELECT pg_sleep(60)"))
        assert await database.read(scalar("SELECT 1")) == 1


async def test_a_lock_is_not_waited_for_without_end(
    url: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_module, "LOCK_SECONDS", 0.05)
    await migrate_database(url, CONDUCTOR)
    async with open_database(url, CONDUCTOR) as database:

        def lock(connection: sa.Connection) -> None:
            connection.exec_driver_sql("LOCK TABLE projects")
            with pytest.raises(Unavailable, match="lock timeout"):
                trio.from_thread.run(database.write, insert)

        await database.write(lock)
        await database.write(insert)


async def test_many_at_once_keep_to_the_pool(database: Database) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(database.read, scalar("SELECT pg_sleep(0.001)"))
            nursery.start_soon(database.write, scalar("SELECT pg_sleep(0.001)"))
    mine = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    found = await database.read(scalar(mine))
    assert isinstance(found, int)
    assert found <= postgresql_module.READERS + postgresql_module.WRITERS


@pytest.fixture
def mortal() -> Iterator[Postgres]:
    """A server that the test may end."""
    with running_postgres() as server:
        yield server


async def test_a_server_that_is_killed_is_an_outage_until_it_is_back(mortal: Postgres) -> None:
    url = mortal.database("x")
    await migrate_database(url, CONDUCTOR)
    async with open_database(url, CONDUCTOR) as database:
        await database.write(insert)
        for end in (mortal.kill, mortal.stop):
            await trio.to_thread.run_sync(end)
            for _ in range(3):
                with pytest.raises(Unavailable, match="does not answer"):
                    await database.read(scalar("SELECT 1"))
                with pytest.raises(Unavailable):
                    await database.write(scalar("SELECT 1"))
            with pytest.raises(Unavailable):
                await migrate_database(url, CONDUCTOR)
            await trio.to_thread.run_sync(mortal.start)
            assert await database.read(scalar("SELECT name FROM projects")) == "a"


async def test_what_is_under_way_when_the_server_dies_is_unavailable(mortal: Postgres) -> None:
    url = mortal.database("x")
    await migrate_database(url, CONDUCTOR)
    async with open_database(url, CONDUCTOR) as database:

        def work(connection: sa.Connection) -> None:
            insert(connection)
            mortal.kill()
            connection.exec_driver_sql("SELECT 1")

        with pytest.raises(Unavailable):
            await database.write(work)
        await trio.to_thread.run_sync(mortal.start)
        assert await database.read(scalar("SELECT count(*) FROM projects")) == 0


@pytest.mark.parametrize("mode", ["require", "verify-full&sslrootcert=system"])
async def test_tls_is_asked_for_in_the_url(mode: str, url: str) -> None:
    with pytest.raises(Unavailable, match="does not support SSL"):
        await migrate_database(f"{url}?sslmode={mode}", CONDUCTOR)


async def test_the_urls_own_options_count(url: str) -> None:
    await migrate_database(url, CONDUCTOR)
    async with open_database(
        f"{url}?application_name=mine&options=-c%20statement_timeout%3D7s", CONDUCTOR
    ) as d:
        assert await d.read(scalar("SHOW statement_timeout")) == "7s"
        assert await d.read(scalar("SHOW application_name")) == "mine"
        assert await d.read(scalar("SHOW lock_timeout")) == "3s"


@pytest.mark.parametrize("bad", ["postgresql+asyncpg://u:secret@h/d", "nonsense secret", ""])
def test_other_urls_are_refused_without_their_password(bad: str) -> None:
    with pytest.raises(ValueError, match="cannot use") as refused:
        check_url(bad)
    assert "secret" not in str(refused.value)
