"""Inserting many rows for the least CPU, as each kind of database likes it best.

Called by the history for its batches, inside a transaction. SQLAlchemy's own way costs several times as much
for each row as the databases do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from whook.backplane.sql.engines import RowExists


def insert_all(connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> bool:
    """Insert rows, each with all columns in the table's order; return False and insert none if one is there.

    PostgreSQL: COPY in binary, one message for all. SQLite: one prepared statement.
    """
    if not rows:
        return True
    try:
        with connection.begin_nested():
            if connection.dialect.name == "postgresql":
                # Imported here: psycopg is needed where there is a PostgreSQL, and nowhere else.
                from whook.backplane.sql.postgresql import copy_rows

                copy_rows(connection, table, rows)
                return True
            connection.exec_driver_sql(_insert(table), cast("Any", rows))
            return True
    except IntegrityError:
        return False
    except RowExists:
        return False


def _insert(table: sa.Table) -> str:
    names = ", ".join(column.name for column in table.columns)
    marks = ", ".join("?" * len(table.columns))
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks})"  # noqa: S608 - the table's own names
