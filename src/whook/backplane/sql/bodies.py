"""Bodies that are too large for a row, in parts of their own: the twin of Blobs, and what the history uses.

Sealed part by part, each bound to its event, its place and the number of parts, so that none can be left out
or exchanged.
"""

from __future__ import annotations

import time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from whook.backplane.sql.bulk import insert_all
from whook.backplane.sql.database import Database
from whook.backplane.sql.history_tables import bodies, events
from whook.chassis.sealing import Sealer

PART_BYTES: Final = 1_048_576
"""Longest part: what a statement has to carry at most."""
MAX_IDS: Final = 500
"""Ids in one statement."""
SWEPT_AT_ONCE: Final = 50
"""Bodies deleted in one transaction."""
LEFT_BEHIND_SECONDS: Final = 3_600.0
"""A body without an event is not taken for left behind before: its event may still be on the way."""


class SqlBlobs:
    """The Blobs store, in the conductor's database."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    async def put(self, event_id: str, body: bytes) -> None:
        """Store a body; durable when this returns. One that is there already stays as it is."""
        await self._database.write(lambda connection: put_body(connection, self._sealer, event_id, body))

    async def get(self, event_id: str) -> bytes | None:
        """Return a body, or None where there is none. Raises SealError."""
        return await self._database.read(lambda connection: get_body(connection, self._sealer, event_id))

    async def delete(self, event_ids: list[str]) -> None:
        """Remove bodies."""
        await self._database.write(lambda connection: delete_bodies(connection, event_ids))


def put_body(connection: Connection, sealer: Sealer, event_id: str, body: bytes) -> None:
    """Store a body in parts, unless it is there."""
    count = max(1, -(-len(body) // PART_BYTES))
    now = time.time()
    rows: list[tuple[Any, ...]] = []
    for part in range(count):
        piece = body[part * PART_BYTES : (part + 1) * PART_BYTES]
        rows.append((event_id, part, now, sealer.seal(piece, _about(event_id, part, count))))
    insert_all(connection, bodies, rows)


def get_body(connection: Connection, sealer: Sealer, event_id: str) -> bytes | None:
    """Return a body, or None where there is none. Raises SealError."""
    found = sa.select(bodies.c.content).where(bodies.c.event_id == event_id).order_by(bodies.c.part)
    parts = connection.scalars(found).all()
    if not parts:
        return None
    return b"".join(
        sealer.open(content, _about(event_id, part, len(parts))) for part, content in enumerate(parts)
    )


def delete_bodies(connection: Connection, event_ids: list[str]) -> None:
    """Remove bodies."""
    for first in range(0, len(event_ids), MAX_IDS):
        some = event_ids[first : first + MAX_IDS]
        connection.execute(bodies.delete().where(bodies.c.event_id.in_(some)))


def sweep_bodies(connection: Connection) -> int:
    """Remove some bodies whose event is not in the history; return how many.

    Only while nothing waits in the queue: what waits may not be in the history.
    """
    known = sa.exists().where(events.c.id == bodies.c.event_id)
    old = bodies.c.stored_at < time.time() - LEFT_BEHIND_SECONDS
    orphans = sa.select(bodies.c.event_id).where(bodies.c.part == 0, old, ~known).limit(SWEPT_AT_ONCE)
    found = list(connection.scalars(orphans))
    delete_bodies(connection, found)
    return len(found)


def _about(event_id: str, part: int, count: int) -> str:
    return f"{event_id}#{part}/{count}"
