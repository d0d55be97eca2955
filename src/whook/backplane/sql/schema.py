"""Which version of its tables a database has, and bringing it to the one that this program knows.

Called by `database` when one is opened or migrated. A database that is current costs one query, without
importing Alembic; one that is newer than the program, or of another service, is refused and left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from whook.backplane.sql.engines import Engines

MIGRATIONS = Path(__file__).with_name("migrations")
"""Holds Alembic's env.py, and one folder of revisions for each database."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The history of one database: its revisions in ``migrations/<name>``, known without reading them."""

    name: str
    revisions: tuple[str, ...]
    """The oldest first. Each begins with the name, so that one database is never taken for another."""
    page_bytes: int = 4_096
    """Of a new SQLite file. One with webhooks has larger ones: a row of 2 KiB would fill a page of 4."""

    @property
    def head(self) -> str:
        """The revision that this program works with."""
        return self.revisions[-1]


CONDUCTOR = Schema(
    "conductor",
    ("conductor_0001", "conductor_0002", "conductor_0003", "conductor_0004", "conductor_0005"),
    page_bytes=16_384,
)
AUTH = Schema("auth", ("auth_0001", "auth_0002", "auth_0003"))
QUEUE = Schema("queue", ("queue_0001",))


class SchemaRefused(Exception):
    """The database cannot be used by this program. The message says why and what to do."""


def migrate(engines: Engines, schema: Schema) -> bool:
    """Bring the database to the head of ``schema``; return whether anything had to be done.

    All of it is one transaction under a lock, so of several programs that start at once one migrates and the
    others find it done, and a migration that fails leaves nothing behind. Raises SchemaRefused.
    """
    with engines.reader.begin() as connection:
        if _version(connection) == schema.head:
            return False
    with engines.writer.begin() as connection:
        engines.lock_migration(connection)
        found = _version(connection)
        if found == schema.head:
            return False
        _refuse_foreign(connection, found, schema)
        _upgrade(connection, schema)
        return True


def check_schema(engines: Engines, schema: Schema) -> None:
    """Return if the database is at the head of ``schema``. Raises SchemaRefused."""
    with engines.reader.begin() as connection:
        found = _version(connection)
        if found == schema.head:
            return
        _refuse_foreign(connection, found, schema)
    state = f"has schema {found}, older than {schema.head}" if found else "has no tables yet"
    raise SchemaRefused(f"the {schema.name} database {state}: run `whook-{schema.name} migrate`")


def _refuse_foreign(connection: Connection, found: str | None, schema: Schema) -> None:
    if found is not None and found not in schema.revisions:
        raise SchemaRefused(_refusal(found, schema))
    if found is None and sa.inspect(connection).get_table_names():
        raise SchemaRefused(f"this is not a whook database: it has tables, but not of {schema.name}")


def _version(connection: Connection) -> str | None:
    """Return the revision of the database; None if nothing was ever made in it."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _refusal(found: str, schema: Schema) -> str:
    if not found.startswith(f"{schema.name}_"):
        return f"this is not the {schema.name} database: its schema is {found}"
    return (
        f"the {schema.name} database has schema {found}, newer than {schema.head}, the newest that this "
        "program knows: upgrade whook, or restore the backup made before the upgrade"
    )


def _upgrade(connection: Connection, schema: Schema) -> None:
    # Imported here: it takes a tenth of a second or more, and is needed once in a database's life.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", _escaped(MIGRATIONS))
    config.set_main_option("version_locations", _escaped(MIGRATIONS / schema.name))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    command.upgrade(config, schema.head)


def _escaped(path: Path) -> str:
    """Return the path as Alembic's configuration wants it: there a percent sign begins an interpolation."""
    return str(path).replace("%", "%%")
