"""PostgreSQL through psycopg 3: a bounded pool, bounded waits, and which of its errors are outages.

Called by `database` for ``postgresql://…``. Everything that is only true of PostgreSQL is here. What libpq
understands may stand in the URL's query: ``sslmode=verify-full&sslrootcert=/etc/whook/ca.pem``, several
hosts, ``target_session_attrs`` (postgresql.org/docs/current/libpq-connect.html).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from whook.backplane.sql.engines import Engines, RowExists

READERS: Final = 4
WRITERS: Final = 4
"""Connections of one process for either purpose. A statement takes well under a millisecond of this process,
and ten processes keep to less than PostgreSQL's usual hundred connections."""

CONNECT_SECONDS: Final = 5
"""How long connecting to one host may take."""
STATEMENT_SECONDS: Final = 5.0
"""The server ends a statement after so long; the transaction fails with Unavailable."""
LOCK_SECONDS: Final = 3.0
"""The same for one that waits for a lock."""
IDLE_SECONDS: Final = 30.0
"""The server ends a transaction that does nothing for so long: this process has stalled."""
SILENCE_SECONDS: Final = 10
"""A server that acknowledges nothing for so long is gone, even if its host says nothing about it."""
RECYCLE_SECONDS: Final = 1800
"""Age at which a connection is replaced, so that a changed address or password is noticed in time."""
MIGRATION_WAIT_SECONDS: Final = 120.0
"""How long a migration waits for another process that migrates."""

_MIGRATION_LOCK: Final = 0x77686F6F6B
"""Key of the advisory lock around a migration. Such locks are per database."""

_OUTAGES: Final = frozenset({"08", "53", "57", "58"})
"""Classes of SQLSTATE that say "not now": connection, resources, operator intervention (a statement that took
too long included) and system errors (postgresql.org/docs/current/errcodes-appendix.html)."""
_OUTAGE_CODES: Final = frozenset({"25006", "40001", "40P01", "55P03"})
"""Of other classes: a server that only reads, serialization failure, deadlock, a lock not granted in time."""

_TYPES: Final[dict[type[sa.types.TypeEngine[Any]], str]] = {
    sa.BigInteger: "int8",
    sa.Integer: "int4",
    sa.SmallInteger: "int2",
    sa.Double: "float8",
    sa.String: "text",
    sa.Text: "text",
    sa.LargeBinary: "bytea",
}


def postgresql_engines(url: URL) -> Engines:
    """Return what reads and writes the database that ``url`` names. Connects only when asked to work."""
    options = " ".join(
        f"-c {name}={int(seconds * 1000)}"
        for name, seconds in (
            ("statement_timeout", STATEMENT_SECONDS),
            ("lock_timeout", LOCK_SECONDS),
            ("idle_in_transaction_session_timeout", IDLE_SECONDS),
        )
    )
    arguments: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": SILENCE_SECONDS,
        "keepalives_interval": SILENCE_SECONDS // 3,
        "keepalives_count": 3,
        "tcp_user_timeout": SILENCE_SECONDS * 1000,
        "application_name": "whook",
    }
    given = dict(url.query)
    arguments = {name: value for name, value in arguments.items() if name not in given}
    arguments["options"] = (
        f"{options} {given['options']}" if isinstance(given.get("options"), str) else options
    )
    writer = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=READERS + WRITERS,
        max_overflow=0,
        pool_timeout=STATEMENT_SECONDS,
        pool_recycle=RECYCLE_SECONDS,
        # A server that was restarted has ended every connection: notice it before work is begun on one.
        pool_pre_ping=True,
        connect_args=arguments,
        hide_parameters=True,
    )
    return Engines(
        reader=writer.execution_options(postgresql_readonly=True),
        writer=writer,
        readers=READERS,
        writers=WRITERS,
        errors=(psycopg.Error,),
        is_outage=_is_outage,
        prepare=_nothing,
        lock_migration=_lock_migration,
        migrates_itself=False,
    )


def _is_outage(error: BaseException) -> bool:
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # not from the server: it could not be reached, or is gone
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate[:2] in _OUTAGES or error.sqlstate in _OUTAGE_CODES


def copy_rows(connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows with all columns of a table, for a tenth of what statements cost. Raises RowExists.

    In binary, where a value's type must be the column's: a new kind of column needs its name in `_TYPES`.
    """
    columns = ", ".join(column.name for column in table.columns)
    types = [_TYPES[type(column.type)] for column in table.columns]
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    statement = f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)".encode()
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            write = copy.write_row
            for row in rows:
                write(row)
    except psycopg.errors.UniqueViolation as error:
        raise RowExists from error


def _nothing(_: int) -> None:
    """Do nothing: the operator has made the database."""


def _lock_migration(connection: Connection) -> None:
    wait = int(MIGRATION_WAIT_SECONDS * 1000)
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {wait}")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {wait}")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
    # What follows may take its time, but must not make others wait behind it for a lock that it cannot get.
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(LOCK_SECONDS * 1000)}")
