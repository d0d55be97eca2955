"""The history in SQL: events with their deliveries, kept until they are too old or too many.

The composition root builds it on the conductor's database and hands it to the conductor. Writing is in
`history_write`, reading in `history_read`, deleting in `history_prune`; here is what waits in between. It
must never hold a transaction for longer than a small part of the work takes.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from whook.backplane.ports import (
    EventDetail,
    EventPlace,
    EventQuery,
    EventSummary,
    Found,
    HistorySize,
    News,
)
from whook.backplane.sql.bodies import sweep_bodies
from whook.backplane.sql.database import Database
from whook.backplane.sql.history_packs import Packing
from whook.backplane.sql.history_prune import Pruning, project_after, prune_beyond, prune_older
from whook.backplane.sql.history_read import Scan, count_dead, detail, following, listing, locate
from whook.backplane.sql.history_tables import totals
from whook.backplane.sql.history_write import record
from whook.chassis.sealing import Sealer


class SqlHistory:
    """The History store."""

    def __init__(self, database: Database, sealer: Sealer, packing: Packing | None = None) -> None:
        """Use the conductor's database; ``sealer`` encrypts what is of the webhooks themselves."""
        self._database = database
        self._sealer = sealer
        self._packing = packing or Packing()

    async def record(self, records: Sequence[News]) -> None:
        """Store news in one transaction; durable when this returns."""
        if records:
            await self._database.write(
                lambda connection: record(connection, self._sealer, records, self._packing)
            )

    async def find(self, project_id: str, query: EventQuery) -> Found:
        """Return matching events; a search for text looks into `Scan.MAX_EVENTS` at most."""
        sealer = self._sealer
        if not query.grep:
            return Found(
                await self._database.read(lambda connection: listing(connection, sealer, project_id, query))
            )
        scan = Scan(query)
        while not scan.over and not scan.exhausted:
            await self._database.read(lambda connection: scan.piece(connection, sealer, project_id))
        found = Found(scan.found)
        if not scan.over:
            found.scanned_to = scan.cursor
        return found

    async def follow(self, project_id: str, after: int, limit: int) -> list[EventSummary]:
        """Return events recorded after ``after``."""
        return await self._database.read(
            lambda connection: following(connection, self._sealer, project_id, after, limit)
        )

    async def get(self, project_id: str, event_id: str) -> EventDetail | None:
        """Return one event with all its deliveries. Raises SealError if the key does not fit."""
        return await self._database.read(
            lambda connection: detail(connection, self._sealer, project_id, event_id)
        )

    async def locate(self, event_id: str) -> EventPlace | None:
        """Return which project an event is of."""
        return await self._database.read(lambda connection: locate(connection, self._sealer, event_id))

    async def dead_letters(self) -> dict[str, int]:
        """Return how many events are dead, by project id."""
        return await self._database.read(count_dead)

    async def size(self) -> HistorySize:
        """Return what the whole history takes."""
        return await self._database.read(_size)

    async def claim_pruning(self, every: float) -> bool:
        """Return True to one caller in ``every`` seconds."""
        now = time.time()
        # A clock that was wrong once must not end pruning for ever.
        due = sa.or_(totals.c.pruned_at <= now - every, totals.c.pruned_at > now + every)
        return await self._database.execute(totals.update().where(due).values(pruned_at=now)) > 0

    async def prune(
        self, *, before: float, keep_bytes: int, dead_before: float, waiting: Collection[str] = ()
    ) -> int:
        """Delete what is too old, then the oldest of what is too much."""
        pruning = Pruning(before, keep_bytes, dead_before, frozenset(waiting))
        deleted = 0
        project_id = ""
        while True:
            following_project = await self._database.read(partial(project_after, project_id=project_id))
            if following_project is None:
                break
            project_id = following_project
            while gone := await self._database.write(
                partial(prune_older, pruning=pruning, project_id=project_id)
            ):
                deleted += gone
        while not pruning.small_enough:
            deleted += await self._database.write(partial(prune_beyond, pruning=pruning))
        while not waiting and await self._database.write(sweep_bodies) > 0:
            pass
        return deleted


def _size(connection: Connection) -> HistorySize:
    row = connection.execute(sa.select(totals)).one()
    return HistorySize(row.events, row.bytes)
