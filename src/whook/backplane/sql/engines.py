"""What one kind of database brings: its engines, and how its errors, locks and preparations differ.

`database` and `schema` use it; `sqlite` and `postgresql` each make one. It is where the dialects differ: the
statements of the stores are the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from whook.backplane.ports import Unavailable


class RowExists(Exception):
    """A row with this key is there; whatever was to be inserted was not."""


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of one database, and what its kind does in its own way."""

    reader: Engine
    """Its transactions may only read."""
    writer: Engine
    readers: int
    """Threads, hence connections, that read at the same time."""
    writers: int
    errors: tuple[type[Exception], ...]
    """What the driver raises where SQLAlchemy does not wrap it."""
    is_outage: Callable[[BaseException], bool]
    """Whether a driver's error says "not now" rather than "never"."""
    prepare: Callable[[int], None]
    """Makes the database usable before its schema is looked at; is told the page size of a new file."""
    lock_migration: Callable[[Connection], None]
    """Called at the beginning of the transaction that migrates: the others wait here."""
    migrates_itself: bool
    """Whether opening it migrates it."""

    @contextmanager
    def outages_told(self, name: str) -> Generator[None, None, None]:
        """Turn errors that may pass into Unavailable, and leave those that are bugs alone."""
        expected: tuple[type[Exception], ...] = (DBAPIError, *self.errors)
        try:
            yield
        except PoolTimeout as error:
            raise Unavailable(f"the {name} database has no connection free") from error
        except expected as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if cause is not None and self.is_outage(cause):
                reason = " ".join(str(cause).split())
                raise Unavailable(f"the {name} database does not answer: {reason}") from error
            raise

    def dispose(self) -> None:
        """Close every connection."""
        self.reader.dispose()
        self.writer.dispose()
