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
from whook.backplane.sql.history_tables import deliveries, events
from whook.backplane.sql.history_write import Totals

AT_ONCE: Final = 250
"""Events in one transaction: some milliseconds."""
_COLUMNS: Final = (events.c.sequence, events.c.id, events.c.bytes, events.c.apart, events.c.deliveries)


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
    least = sa.select(sa.func.min(events.c.project_id)).where(events.c.project_id > project_id)
    found: str | None = connection.scalar(least)
    return found


def prune_older(connection: Connection, pruning: Pruning, project_id: str) -> int:
    """Delete some events of a project that are too old; return how many."""
    held = Totals(connection)
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
    oldest = sa.select(*_COLUMNS).where(events.c.sequence > pruning.cursor, pruning.may_go())
    chosen: list[Row[*tuple[Any, ...]]] = []
    for row in connection.execute(oldest.order_by(events.c.sequence).limit(AT_ONCE)):
        if too_much <= 0:
            break
        too_much -= row.bytes
        chosen.append(row)
    if not chosen:
        pruning.small_enough = True
        return 0
    pruning.cursor = chosen[-1].sequence
    _delete(connection, chosen, held)
    return len(chosen)


def _delete(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]], held: Totals) -> None:
    if not rows:
        return
    connection.execute(events.delete().where(events.c.sequence.in_([row.sequence for row in rows])))
    connection.execute(deliveries.delete().where(deliveries.c.event_id.in_([row.id for row in rows])))
    delete_bodies(connection, [row.id for row in rows if row.apart])
    held.events -= len(rows)
    held.bytes -= sum(row.bytes for row in rows)
    held.store()
