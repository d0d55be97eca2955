"""Migrations: once, safely from two programs at once, and never over a newer schema."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tests.support.deadlines import DEADLINE
from whook.backplane.sql import (
    AUTH,
    CONDUCTOR,
    QUEUE,
    Schema,
    SchemaRefused,
    auth,
    open_database,
    projects,
    queue_tables,
    sqlite_url,
)
from whook.backplane.sql import schema as schema_module
from whook.backplane.sql.schema import MIGRATIONS

EACH = pytest.mark.parametrize("schema", [CONDUCTOR, AUTH, QUEUE], ids=lambda schema: schema.name)
METADATA = {"conductor": projects.metadata, "auth": auth.metadata, "queue": queue_tables.metadata}


def dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        lines = list(connection.iterdump())
    connection.close()
    return lines


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


async def make(path: Path, schema: Schema) -> None:
    async with open_database(sqlite_url(path), schema):
        pass


@EACH
def test_the_head_known_to_the_program_is_alembics(schema: Schema) -> None:
    scripts = ScriptDirectory(str(MIGRATIONS), version_locations=[str(MIGRATIONS / schema.name)])
    found = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(found)) == schema.revisions
    assert scripts.get_heads() == [schema.head]
    assert all(revision.startswith(f"{schema.name}_") for revision in found)


@EACH
async def test_migrations_make_the_tables_that_the_stores_use(schema: Schema, tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path / "x.db"), schema) as database:

        def differences(connection: sa.Connection) -> list[object]:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            return list(compare_metadata(context, METADATA[schema.name]))

        assert await database.read(differences) == []


@EACH
async def test_opening_again_changes_nothing(schema: Schema, tmp_path: Path) -> None:
    await make(tmp_path / "x.db", schema)
    before = dump(tmp_path / "x.db")
    await make(tmp_path / "x.db", schema)
    assert dump(tmp_path / "x.db") == before


@EACH
async def test_a_newer_schema_is_refused_and_left_alone(schema: Schema, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await make(path, schema)
    change(path, f"UPDATE alembic_version SET version_num = '{schema.name}_9999'")
    before = dump(path)
    with pytest.raises(SchemaRefused, match=r"newer than .* upgrade whook"):
        await make(path, schema)
    assert dump(path) == before


async def test_another_services_database_is_refused(tmp_path: Path) -> None:
    await make(tmp_path / "x.db", AUTH)
    before = dump(tmp_path / "x.db")
    with pytest.raises(SchemaRefused, match="not the conductor database"):
        await make(tmp_path / "x.db", CONDUCTOR)
    assert dump(tmp_path / "x.db") == before


async def test_a_strangers_database_is_refused(tmp_path: Path) -> None:
    change(tmp_path / "x.db", "CREATE TABLE theirs (x)")
    with pytest.raises(SchemaRefused, match="not a whook database"):
        await make(tmp_path / "x.db", CONDUCTOR)
    assert any("theirs" in line for line in dump(tmp_path / "x.db"))
    assert not any("projects" in line for line in dump(tmp_path / "x.db"))


@pytest.mark.parametrize("folder", ["plain", "50% off", "two words", "a:b", "ünï"])
async def test_any_path_will_do(folder: str, tmp_path: Path) -> None:
    await make(tmp_path / folder / "deep" / "x.db", AUTH)
    assert dump(tmp_path / folder / "deep" / "x.db")


PROGRAM = """
import sys, trio
from pathlib import Path
from whook.backplane.sql import AUTH, open_database, sqlite_url

async def main():
    url = sqlite_url(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    async with open_database(url, AUTH):
        print("alembic" in sys.modules, flush=True)

trio.run(main)
"""


@pytest.fixture
def start() -> Callable[[Path], subprocess.Popen[str]]:
    def start(path: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": "src"},
        )

    return start


def test_several_processes_at_once(start: Callable[[Path], subprocess.Popen[str]], tmp_path: Path) -> None:
    # Waits for all to have imported everything, so that they really meet at the database.
    programs = [start(tmp_path / "x.db") for _ in range(3)]
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    ends = [program.communicate(timeout=DEADLINE) for program in programs]
    assert [(program.returncode, stderr) for program, (_, stderr) in zip(programs, ends, strict=True)] == [
        (0, "")
    ] * 3
    connection = sqlite3.connect(tmp_path / "x.db")
    assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(AUTH.head,)]
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_a_current_database_does_not_load_alembic(
    start: Callable[[Path], subprocess.Popen[str]], tmp_path: Path
) -> None:
    await make(tmp_path / "x.db", AUTH)
    out, errors = start(tmp_path / "x.db").communicate("\n", timeout=DEADLINE)
    assert (out, errors) == ("ready\nFalse\n", "")


NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "auth_0004"
down_revision = "auth_0003"


def upgrade() -> None:
    op.create_table("more", sa.Column("id", sa.Integer))
    op.execute("INSERT INTO users (id, name, created_at) VALUES ('usr_new', 'new', '2026-01-01 00:00:00')")
"""


@pytest.fixture
def next_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Schema:
    """The history as a later program will know it: the present one, and a revision more."""
    shutil.copytree(MIGRATIONS, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(schema_module, "MIGRATIONS", tmp_path / "migrations")
    (tmp_path / "migrations" / "auth" / "auth_0004_more.py").write_text(NEXT)
    return Schema("auth", (*AUTH.revisions, "auth_0004"))


async def test_an_older_schema_is_brought_up_to_date(next_schema: Schema, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await make(path, AUTH)
    change(path, "INSERT INTO users (id, name, created_at) VALUES ('usr_old', 'old', '2026-01-01 00:00:00')")
    await make(path, next_schema)
    lines = "\n".join(dump(path))
    assert all(word in lines for word in ("usr_old", "usr_new", "more", "auth_0004"))
    with pytest.raises(SchemaRefused, match="schema auth_0004, newer than auth_0003"):
        await make(path, AUTH)


async def test_claims_from_before_get_the_ids_of_projects(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    await make(path, Schema("auth", AUTH.revisions[: AUTH.revisions.index("auth_0003")]))
    change(path, "INSERT INTO users (id, name, created_at) VALUES ('usr_1', 'ann', '2026-01-01 00:00:00')")
    for name in ("shop", "blog"):
        change(
            path,
            "INSERT INTO project_owners (project, user_id, claimed_at) "
            f"VALUES ('{name}', 'usr_1', '2026-01-01 00:00:00')",
        )
    await make(path, AUTH)
    claims = [line for line in dump(path) if line.startswith('INSERT INTO "project_owners"')]
    ids = {line.partition("'prj_")[2] for line in claims}
    assert len(claims) == len(ids) == 2
    assert "" not in ids


@pytest.mark.parametrize("existing", [True, False])
async def test_a_migration_that_fails_leaves_nothing_behind(
    existing: bool, next_schema: Schema, tmp_path: Path
) -> None:
    path = tmp_path / "x.db"
    if existing:
        await make(path, AUTH)
    before = dump(path)
    script = tmp_path / "migrations" / "auth" / "auth_0004_more.py"
    script.write_text(NEXT + "    raise KeyError('half-way')\n")
    with pytest.raises(KeyError, match="half-way"):
        await make(path, next_schema)
    assert dump(path) == before
    script.write_text(NEXT)
    await make(path, next_schema)
    assert any("auth_0004" in line for line in dump(path))
