"""A database: SQLAlchemy engines, used synchronously in worker threads.

Owns the engines, how they are set up, and how many threads may use them. The stores of this folder call
`read` and `write`; the composition root opens it. No connection ever leaves the thread that works with it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import trio
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from whook.backplane.ports import Unavailable
from whook.backplane.sql.schema import Schema, migrate

READERS = 4
"""Threads, hence connections, that read at the same time: SQLite answers in well under a millisecond, so more
would only queue for Python's interpreter lock."""

BUSY_SECONDS = 5.0
"""How long a statement waits for another process's write before it fails with Unavailable."""

SWITCH_ATTEMPTS = 10
"""Tries to switch a new file to WAL: each failure means that another program got further, and the first that
succeeds ends it for all."""

_OUTAGES = frozenset({5, 6, 7, 8, 10, 13, 14})
"""SQLite's primary result codes that say "not now" rather than "never": BUSY, LOCKED, NOMEM, READONLY, IOERR,
FULL, CANTOPEN (sqlite.org/rescode.html)."""

T = TypeVar("T")


def sqlite_url(path: Path) -> str:
    """Return the URL of the SQLite database in that file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


class Database:
    """An open database. Work is given as a function that gets a connection inside a transaction."""

    def __init__(self, name: str, reader: Engine, writer: Engine) -> None:
        self._name = name
        self._reader = reader
        self._writer = writer
        self._readers = trio.CapacityLimiter(READERS)
        # SQLite has one writer at a time: whoever waits for it waits here, cancellably, and not in a thread.
        self._writers = trio.CapacityLimiter(1)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns, having run it in a transaction that may only read.

        Raises Unavailable if the database does not answer. Once begun it is not cancelled, only awaited.
        """
        return await trio.to_thread.run_sync(self._run, self._reader, work, limiter=self._readers)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Return what ``work`` returns, having committed it; an exception from ``work`` rolls it back.

        Raises Unavailable if the database does not answer. Once begun it is not cancelled, only awaited.
        """
        return await trio.to_thread.run_sync(self._run, self._writer, work, limiter=self._writers)

    async def execute(self, statement: sa.Insert | sa.Update | sa.Delete) -> int:
        """Execute one statement in a transaction of its own, as `write`; return how many rows it touched."""
        return await self.write(lambda connection: connection.execute(statement).rowcount)

    def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        with _outages_told(self._name), engine.begin() as connection:
            return work(connection)


@contextmanager
def _outages_told(name: str) -> Generator[None, None, None]:
    """Turn errors that may pass into Unavailable, and leave those that are bugs alone."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF in _OUTAGES:
            raise Unavailable(f"the {name} database does not answer: {cause}") from error
        raise


@asynccontextmanager
async def open_database(url: str, schema: Schema) -> AsyncGenerator[Database, None]:
    """Open the database at ``url``, made and migrated to ``schema`` as needed.

    Raises SchemaRefused if it is of a newer program or of another service, Unavailable if it cannot be
    reached, and ValueError for a URL that is not of a supported kind.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        shown = parsed.render_as_string(hide_password=True)
        raise ValueError(f"cannot use {shown!r} as a database: give sqlite:///PATH")
    reader, writer = _sqlite_engine(parsed, write=False), _sqlite_engine(parsed, write=True)
    try:
        await trio.to_thread.run_sync(_prepare, Path(parsed.database), reader, writer, schema)
        yield Database(schema.name, reader, writer)
    finally:
        reader.dispose()
        writer.dispose()


def _prepare(path: Path, reader: Engine, writer: Engine, schema: Schema) -> None:
    with _outages_told(schema.name):
        _make_file(path)
        _switch_to_wal(writer)
        migrate(reader, writer, schema)


def _make_file(path: Path) -> None:
    """Make the file readable by its owner only, before SQLite would: it may hold hashes and private keys.

    SQLite gives its companion files the same mode.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise Unavailable(f"cannot use the database file {path}: {error.strerror}") from error


def _sqlite_engine(url: URL, *, write: bool) -> Engine:
    engine = sa.create_engine(
        url,
        poolclass=sa.QueuePool,
        pool_size=1 if write else READERS,
        max_overflow=0,
        # The driver must not begin transactions by itself: see `begin`.
        connect_args={"isolation_level": None, "timeout": BUSY_SECONDS, "check_same_thread": False},
    )

    def connect(connection: Any, _entry: ConnectionPoolEntry) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        # What was acknowledged survives a power cut: a token is shown once, and a name is claimed once.
        connection.execute("PRAGMA synchronous = FULL")
        if not write:
            connection.execute("PRAGMA query_only = ON")

    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later cannot wait for the lock in SQLite: take it at once.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)
    return engine


def _switch_to_wal(writer: Engine) -> None:
    """Let readers and the writer work side by side (sqlite.org/wal.html). The file remembers it.

    SQLite does not wait for a lock when it switches, so of two programs that open a new file together one
    would fail. That one waits for the other by asking for the write lock, then tries again.
    """
    raw = writer.raw_connection()
    try:
        cursor = raw.cursor()
        for attempt in range(1, SWITCH_ATTEMPTS + 1):
            try:
                cursor.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == SWITCH_ATTEMPTS:
                    raise
                cursor.execute("BEGIN IMMEDIATE")
                cursor.execute("ROLLBACK")
        cursor.close()
    finally:
        raw.close()


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
