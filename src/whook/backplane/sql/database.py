"""A database: SQLAlchemy engines, used synchronously in worker threads.

Owns how many threads may use them, and opening the kind of database that a URL names. The stores of this
folder call `read` and `write`; the composition root opens it. No connection ever leaves the thread that works
with it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import sqlalchemy as sa
import trio
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError

from whook.backplane.sql.engines import Engines
from whook.backplane.sql.schema import Schema, check_schema, migrate

T = TypeVar("T")


class Database:
    """An open database. Work is given as a function that gets a connection inside a transaction."""

    def __init__(self, name: str, engines: Engines) -> None:
        self._name = name
        self._engines = engines
        self._readers = trio.CapacityLimiter(engines.readers)
        # Whoever waits for a connection waits here, cancellably, and not in a thread.
        self._writers = trio.CapacityLimiter(engines.writers)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns, having run it in a transaction that may only read.

        Raises Unavailable if the database does not answer. Once begun it is not cancelled, only awaited.
        """
        return await trio.to_thread.run_sync(self._run, self._engines.reader, work, limiter=self._readers)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns, having committed it; an exception from ``work`` rolls it back.

        Raises Unavailable if the database does not answer; whether it has committed is then unknown. Once
        begun it is not cancelled, only awaited.
        """
        return await trio.to_thread.run_sync(self._run, self._engines.writer, work, limiter=self._writers)

    async def execute(self, statement: sa.Insert | sa.Update | sa.Delete) -> int:
        """Execute one statement in a transaction of its own, as `write`; return how many rows it touched."""
        return await self.write(lambda connection: connection.execute(statement).rowcount)

    def _run(self, engine: sa.Engine, work: Callable[[Connection], T]) -> T:
        with self._engines.outages_told(self._name), engine.begin() as connection:
            return work(connection)


@asynccontextmanager
async def open_database(url: str, schema: Schema) -> AsyncGenerator[Database, None]:
    """Open the database at ``url``: ``sqlite:///PATH`` or ``postgresql://…``.

    A SQLite file is made and migrated as needed. A PostgreSQL database may be in use by other processes of
    an older program, so that is left to `migrate_database`. Raises SchemaRefused if the schema is not the one
    that this program works with, Unavailable if the database cannot be reached, and ValueError for a URL that
    is not of a supported kind.
    """
    engines = _engines(url)
    try:
        await trio.to_thread.run_sync(_prepare, engines, schema)
        yield Database(schema.name, engines)
    finally:
        engines.dispose()


async def migrate_database(url: str, schema: Schema) -> bool:
    """Bring the database at ``url`` to ``schema``; return whether anything had to be done.

    Any number of processes may do this at once. Raises what `open_database` raises.
    """
    engines = _engines(url)
    try:
        return await trio.to_thread.run_sync(_migrate, engines, schema)
    finally:
        engines.dispose()


def check_url(url: str) -> None:
    """Return if ``url`` is of a supported kind. Raises ValueError; its text holds no password."""
    parsed = _parse(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database and parsed.database != ":memory:":
        return
    if backend == "postgresql" and parsed.drivername in {"postgresql", "postgresql+psycopg"}:
        return
    shown = parsed.render_as_string(hide_password=True)
    raise ValueError(f"cannot use {shown!r} as a database: give sqlite:///PATH or postgresql://…")


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise ValueError("cannot use this as a database URL: give sqlite:///PATH or postgresql://…") from None


def _engines(url: str) -> Engines:
    check_url(url)
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        from whook.backplane.sql.sqlite import sqlite_engines

        return sqlite_engines(parsed)
    # Imported here: psycopg is needed where there is a PostgreSQL, and nowhere else.
    from whook.backplane.sql.postgresql import postgresql_engines

    return postgresql_engines(parsed)


def _prepare(engines: Engines, schema: Schema) -> None:
    with engines.outages_told(schema.name):
        engines.prepare(schema.page_bytes)
        if engines.migrates_itself:
            migrate(engines, schema)
        else:
            check_schema(engines, schema)


def _migrate(engines: Engines, schema: Schema) -> bool:
    with engines.outages_told(schema.name):
        engines.prepare(schema.page_bytes)
        return migrate(engines, schema)


def insert_if_absent(connection: Connection, insert: sa.Insert) -> bool:
    """Insert a row unless a unique constraint says that it is there; return whether it was inserted.

    Without the savepoint a refused insert would spoil the transaction in PostgreSQL.
    """
    try:
        with connection.begin_nested():
            connection.execute(insert)
    except IntegrityError:
        return False
    return True
