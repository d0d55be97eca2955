"""SQLite: one file, one writer at a time, readers beside it (write-ahead log).

Called by `database` for ``sqlite:///PATH``. Everything that is only true of SQLite is here.
"""

from __future__ import annotations

import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry

from whook.backplane.ports import Unavailable
from whook.backplane.sql.engines import Engines

READERS = 4
"""Threads, hence connections, that read at the same time: SQLite answers in well under a millisecond, so more
would only queue for Python's interpreter lock."""

BUSY_SECONDS = 5.0
"""How long a statement waits for another process's write before it fails with Unavailable."""

CACHE_KIB = 16_384
"""Of the connection that writes, as far as it is needed."""

SWITCH_ATTEMPTS = 10
"""Tries to switch a new file to WAL: each failure means that another program got further, and the first that
succeeds ends it for all."""

_OUTAGES = frozenset({5, 6, 7, 8, 10, 13, 14})
"""SQLite's primary result codes that say "not now" rather than "never": BUSY, LOCKED, NOMEM, READONLY, IOERR,
FULL, CANTOPEN (sqlite.org/rescode.html)."""


def sqlite_url(path: Path) -> str:
    """Return the URL of the SQLite database in that file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def sqlite_engines(url: URL) -> Engines:
    """Return what reads and writes the file that ``url`` names."""
    writer = _sqlite_engine(url, write=True)
    return Engines(
        reader=_sqlite_engine(url, write=False),
        writer=writer,
        readers=READERS,
        writers=1,
        errors=(sqlite3.Error,),
        is_outage=_is_outage,
        prepare=partial(_prepare, Path(url.database or ""), writer),
        lock_migration=_write_lock_is_held,
        migrates_itself=True,
    )


def _is_outage(error: BaseException) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUTAGES


def _write_lock_is_held(_: Connection) -> None:
    """Do nothing: every transaction of the writer begins by taking the database's only write lock."""


def _prepare(path: Path, writer: Engine, page_bytes: int) -> None:
    _make_file(path)
    _switch_to_wal(writer, page_bytes)


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
        # A batch for the history fits into it, so that no page of one transaction is written twice.
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB if write else CACHE_KIB // 8}")
        if not write:
            connection.execute("PRAGMA query_only = ON")

    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later cannot wait for the lock in SQLite: take it at once.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)
    return engine


def _switch_to_wal(writer: Engine, page_bytes: int) -> None:
    """Let readers and the writer work side by side (sqlite.org/wal.html). The file remembers it.

    A file that is still empty gets its page size on the way; any other keeps its own.

    SQLite does not wait for a lock when it switches, so of two programs that open a new file together one
    would fail. That one waits for the other by asking for the write lock, then tries again.
    """
    raw = writer.raw_connection()
    try:
        cursor = raw.cursor()
        cursor.execute(f"PRAGMA page_size = {page_bytes}")
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
