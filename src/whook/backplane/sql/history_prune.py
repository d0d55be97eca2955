"""Deleting from the history what is too old, and the oldest of what is too much.

Called by `history`, one small transaction after the other: what writes waits for one of them at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from whook.backplane.sql.bodies import delete_bodies
from whook.backplane.sql.history_tables import deliveries, events, packs
from whook.backplane.sql.history_write import Totals

AT_ONCE: Final = 250
"""Events in one transaction: some milliseconds."""
PACKS_AT_ONCE: Final = 25
"""Packs in one transaction: with their contents some 6 MiB."""
_PACK_COLUMNS: Final = (packs.c.sequence, packs.c.events, packs.c.bytes)
_COLUMNS: Final = (events.c.sequence, events.c.id, events.c.bytes, events.c.apart, events.c.deliveries)

Rows = Sequence[Row[*tuple[Any, ...]]]


@dataclass(slots=True)
class Pruning:
    """What one run of the pruner is to do, and how far it is with the size."""

    before: float
    keep_bytes: int
    dead_before: float
    waiting: frozenset[str]
    """Projects of which something is in the queue."""
    cursor: int = field(default=-1)
    small_enough: bool = False
    """Nothing is to be deleted any more because of the size, or nothing can be."""

    def may_go(self) -> sa.ColumnElement[bool]:
        """Say which events may be deleted at all."""
        done = events.c.state.in_(("answered", "refused"))
        dead = sa.and_(events.c.state == "dead", events.c.received_at < self.dead_before)
        may_go = sa.or_(done, dead, events.c.content.is_(None))
        if self.waiting:
            needed = sa.and_(events.c.apart == 1, events.c.project_id.in_(self.waiting))
            return sa.and_(may_go, ~needed)
        return may_go


def project_after(connection: Connection, project_id: str) -> str | None:
    """Return the next project that has events, by its id; None after the last."""
    found: list[str] = []
    for column in (events.c.project_id, packs.c.project_id):
        least = connection.scalar(sa.select(sa.func.min(column)).where(column > project_id))
        if least is not None:
            found.append(least)
    return min(found, default=None)


def prune_older(connection: Connection, pruning: Pruning, project_id: str) -> int:
    """Delete some events of a project that are too old; return how many."""
    held = Totals(connection)
    old_packs = sa.select(*_PACK_COLUMNS).where(
        packs.c.project_id == project_id, packs.c.last_at < pruning.before
    )
    gone = connection.execute(old_packs.order_by(packs.c.last_at).limit(PACKS_AT_ONCE)).all()
    if gone:
        return _delete_packs(connection, gone, held)
    old = sa.select(*_COLUMNS).where(
        events.c.project_id == project_id, events.c.received_at < pruning.before, pruning.may_go()
    )
    rows = connection.execute(old.order_by(events.c.received_at).limit(AT_ONCE)).all()
    _delete(connection, rows, held)
    return len(rows)


def prune_beyond(connection: Connection, pruning: Pruning) -> int:
    """Delete some of the oldest events if all together are too large; return how many."""
    held = Totals(connection)
    too_much = held.bytes - pruning.keep_bytes
    if too_much <= 0:
        pruning.small_enough = True
        return 0
    first_pack: int | None = connection.scalar(sa.select(sa.func.min(packs.c.sequence)))
    rows = sa.select(*_COLUMNS).where(events.c.sequence > pruning.cursor, pruning.may_go())
    if first_pack is not None:
        rows = rows.where(events.c.sequence < first_pack)
    chosen = _enough(connection, rows.order_by(events.c.sequence).limit(AT_ONCE), too_much)
    if chosen:
        pruning.cursor = chosen[-1].sequence
        _delete(connection, chosen, held)
        return len(chosen)
    if first_pack is None:
        pruning.small_enough = True
        return 0
    oldest = sa.select(*_PACK_COLUMNS).order_by(packs.c.sequence).limit(PACKS_AT_ONCE)
    return _delete_packs(connection, _enough(connection, oldest, too_much), held)


def _enough(connection: Connection, oldest: sa.Select[*tuple[Any, ...]], too_much: int) -> Rows:
    """Return as many as it takes to get rid of so many bytes."""
    chosen: list[Row[*tuple[Any, ...]]] = []
    for row in connection.execute(oldest):
        if too_much <= 0:
            break
        too_much -= row.bytes
        chosen.append(row)
    return chosen


def _delete_packs(connection: Connection, rows: Rows, held: Totals) -> int:
    connection.execute(packs.delete().where(packs.c.sequence.in_([row.sequence for row in rows])))
    count: int = sum(row.events for row in rows)
    held.events -= count
    held.bytes -= sum(row.bytes for row in rows)
    held.store()
    return count


def _delete(connection: Connection, rows: Rows, held: Totals) -> None:
    if not rows:
        return
    connection.execute(events.delete().where(events.c.sequence.in_([row.sequence for row in rows])))
    connection.execute(deliveries.delete().where(deliveries.c.event_id.in_([row.id for row in rows])))
    delete_bodies(connection, [row.id for row in rows if row.apart])
    held.events -= len(rows)
    held.bytes -= sum(row.bytes for row in rows)
    held.store()
