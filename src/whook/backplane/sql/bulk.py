"""Inserting many rows for the least CPU, as each kind of database likes it best.

Called by the history for its batches, inside a transaction. SQLAlchemy's own way costs several times as much
for each row as the databases do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from whook.backplane.sql.engines import RowExists

_PARAMETERS: Final = 4_000
"""Of one statement: fewer than any SQLite takes since 3.32, and the driver keeps few statements prepared."""


def insert_all(connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> bool:
    """Insert rows, each with all columns in the table's order; return False and insert none if one is there.

    PostgreSQL: COPY in binary, one message for all. SQLite: statements of many rows each, because the driver
    gives the interpreter lock up and takes it back for every statement that it runs.
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
            most = _PARAMETERS // len(table.columns)
            for first in range(0, len(rows), most):
                some = rows[first : first + most]
                values = tuple(chain.from_iterable(some))
                connection.exec_driver_sql(_insert(table, len(some)), values)
            return True
    except IntegrityError:
        return False
    except RowExists:
        return False


@cache
def _insert(table: sa.Table, rows: int) -> str:
    names = ", ".join(column.name for column in table.columns)
    marks = f"({', '.join('?' * len(table.columns))})"
    values = ", ".join([marks] * rows)
    return f"INSERT INTO {table.name} ({names}) VALUES {values}"  # noqa: S608 - the table's own names
