"""What each call of the queue does to its tables, as functions on an open transaction.

Called by ``queue`` only, in the thread that writes. Each checks first and changes then, so that a refusal
(QueueFull, NotOwner, Unavailable) leaves the transaction as it was: there are others in it.

An entry is *given* out under a fence; under a greater one it counts as never given. It is *deferred* while
its ``due_at`` is to come. A lease holds from ``renewed_at`` to ``ends_at``, so that a clock which is set back
by an hour does not make it an hour longer.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, cast

from whook.backplane.ports import (
    Backlog,
    BacklogEvent,
    BacklogGone,
    BacklogSet,
    Batch,
    NotOwner,
    Origin,
    Ownership,
    Queued,
    QueueFull,
    QueueLimits,
    StoredEvent,
    Unavailable,
)

NOTHING = Backlog(count=0, bytes=0, oldest_at=0.0)


@dataclass(slots=True)
class Transaction:
    """An open transaction, and what is to be published once it is durable."""

    db: sqlite3.Connection
    now: float
    """Seconds since the epoch."""
    news: list[BacklogEvent] = field(default_factory=list[BacklogEvent])


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is to be appended."""

    project_id: str
    project: str
    event_id: str
    origin: Origin
    attempts: int
    since: float
    size: int
    body_size: int
    payload: bytes


def append(tx: Transaction, entry: Entry, limits: QueueLimits) -> None:
    """Add an entry at the end. Raises QueueFull."""
    count, size, oldest_at = _held(tx.db, entry.project_id)
    total_count, total_size = tx.db.execute("SELECT count, bytes FROM totals").fetchone()
    if count + 1 > limits.project_count:
        raise QueueFull("project-count")
    if size + entry.size > limits.project_bytes:
        raise QueueFull("project-bytes")
    if count and tx.now - oldest_at > limits.project_age:
        raise QueueFull("project-age")
    if total_count + 1 > limits.total_count:
        raise QueueFull("total-count")
    if total_size + entry.size > limits.total_bytes:
        raise QueueFull("total-bytes")
    tx.db.execute(
        "INSERT INTO entries (project_id, event_id, origin, attempts, failures, given, due_at, since, size, "
        "body_size, payload) VALUES (?, ?, ?, ?, 0, 0, 0, ?, ?, ?, ?)",
        (
            entry.project_id,
            entry.event_id,
            entry.origin,
            entry.attempts,
            entry.since,
            entry.size,
            entry.body_size,
            entry.payload,
        ),
    )
    tx.db.execute("UPDATE totals SET count = count + 1, bytes = bytes + ?", (entry.size,))
    if count:
        tx.db.execute(
            "UPDATE backlogs SET count = count + 1, bytes = bytes + ? WHERE project_id = ?",
            (entry.size, entry.project_id),
        )
        return
    tx.db.execute("INSERT INTO backlogs VALUES (?, 1, ?)", (entry.project_id, entry.size))
    tx.news.append(BacklogSet(project_id=entry.project_id, project=entry.project, version=_next_version(tx)))


def backlog(db: sqlite3.Connection, project_id: str) -> Backlog:
    """Return what of the project waits."""
    count, size, oldest_at = _held(db, project_id)
    return Backlog(count=count, bytes=size, oldest_at=oldest_at)


def backlogs(db: sqlite3.Connection) -> dict[str, Backlog]:
    """Return every project of which something waits."""
    rows = db.execute(
        "SELECT project_id, count, bytes, (SELECT since FROM entries WHERE "
        "entries.project_id = backlogs.project_id ORDER BY position LIMIT 1) FROM backlogs"
    )
    return {row[0]: Backlog(count=row[1], bytes=row[2], oldest_at=row[3]) for row in rows}


def version(db: sqlite3.Connection) -> int:
    """Return the number of the last change of whether a project has a backlog."""
    return cast("int", db.execute("SELECT version FROM totals").fetchone()[0])


def attend(tx: Transaction, owner: str, ttl: float) -> bool:
    """Take or renew a lease; return whether it was renewed."""
    tx.db.execute("DELETE FROM leases WHERE NOT (renewed_at <= ? AND ? < ends_at)", (tx.now, tx.now))
    tx.db.execute("DELETE FROM ownerships WHERE owner NOT IN (SELECT owner FROM leases)")
    renewed = tx.db.execute(
        "UPDATE leases SET renewed_at = ?, ends_at = ? WHERE owner = ?", (tx.now, tx.now + ttl, owner)
    )
    if renewed.rowcount:
        return True
    tx.db.execute("INSERT INTO leases VALUES (?, ?, ?)", (owner, tx.now, tx.now + ttl))
    return False


def end_leases(tx: Transaction) -> None:
    """End every lease and ownership. What was given out comes again under the next ownership."""
    tx.db.execute("DELETE FROM leases")
    tx.db.execute("DELETE FROM ownerships")


def leave(tx: Transaction, owner: str) -> None:
    """End a lease and the ownerships that hang on it."""
    tx.db.execute("DELETE FROM leases WHERE owner = ?", (owner,))
    tx.db.execute("DELETE FROM ownerships WHERE owner = ?", (owner,))


def acquire(tx: Transaction, project_id: str, owner: str) -> Ownership | None:
    """Begin an ownership unless another owner's stands. Raises NotOwner."""
    if not _has_lease(tx, owner):
        raise NotOwner(project_id)
    held = tx.db.execute("SELECT owner FROM ownerships WHERE project_id = ?", (project_id,)).fetchone()
    if held is not None and held[0] != owner and _has_lease(tx, held[0]):
        return None
    tx.db.execute("UPDATE totals SET fence = fence + 1")
    [fence] = tx.db.execute("SELECT fence FROM totals").fetchone()
    tx.db.execute("INSERT OR REPLACE INTO ownerships VALUES (?, ?, ?)", (project_id, owner, fence))
    return Ownership(project_id=project_id, owner=owner, fence=fence)


def release(tx: Transaction, ownership: Ownership) -> None:
    """End an ownership if it stands."""
    tx.db.execute(
        "DELETE FROM ownerships WHERE project_id = ? AND owner = ? AND fence = ?",
        (ownership.project_id, ownership.owner, ownership.fence),
    )


def read(
    tx: Transaction,
    ownership: Ownership,
    limit: int,
    max_bytes: int,
    in_order: bool,
    unpack: Callable[[bytes, str], StoredEvent],
) -> Batch:
    """Give out the next entries, up to one that ``unpack`` cannot open.

    Raises NotOwner, and Unavailable from ``unpack`` if that one is the first.
    """
    _check_owner(tx, ownership)
    latest = math.inf if in_order else tx.now
    rows = tx.db.execute(
        "SELECT position, event_id, origin, attempts, failures, due_at, body_size, payload FROM entries "
        "WHERE project_id = ? AND given <> ? AND due_at <= ? ORDER BY position",
        (ownership.project_id, ownership.fence, latest),
    )
    entries: list[Queued] = []
    total = 0
    while len(entries) < limit and (row := rows.fetchone()) is not None:
        position, event_id, origin, attempts, failures, due_at, body_size, payload = row
        total += body_size
        if due_at > tx.now or (entries and total > max_bytes):
            break
        try:
            event = unpack(payload, event_id)
        except Unavailable:
            if not entries:
                raise
            break
        entries.append(
            Queued(
                position=str(position),
                event=event,
                origin=origin,
                attempt=attempts + 1,
                failures=failures,
            )
        )
    rows.close()
    tx.db.executemany(
        "UPDATE entries SET given = ?, attempts = attempts + 1, due_at = 0 WHERE position = ?",
        [(ownership.fence, int(entry.position)) for entry in entries],
    )
    return Batch(entries, _next_due(tx, ownership.project_id, in_order))


def settle(tx: Transaction, ownership: Ownership, positions: list[str]) -> Backlog:
    """Remove entries; return what is left. Raises NotOwner."""
    _check_owner(tx, ownership)
    project_id = ownership.project_id
    removed = removed_size = 0
    for position in filter(None, map(_number, positions)):
        key = (position, project_id)
        row = tx.db.execute("SELECT size FROM entries WHERE position = ? AND project_id = ?", key).fetchone()
        if row is not None:
            tx.db.execute("DELETE FROM entries WHERE position = ? AND project_id = ?", key)
            removed += 1
            removed_size += row[0]
    if removed:
        tx.db.execute("UPDATE totals SET count = count - ?, bytes = bytes - ?", (removed, removed_size))
        tx.db.execute(
            "UPDATE backlogs SET count = count - ?, bytes = bytes - ? WHERE project_id = ?",
            (removed, removed_size, project_id),
        )
        if tx.db.execute("DELETE FROM backlogs WHERE project_id = ? AND count = 0", (project_id,)).rowcount:
            tx.news.append(BacklogGone(project_id=project_id, version=_next_version(tx)))
    return backlog(tx.db, project_id)


def defer(tx: Transaction, ownership: Ownership, position: str, until: float, failed: bool) -> None:
    """Give an entry back until later. Raises NotOwner."""
    _check_owner(tx, ownership)
    tx.db.execute(
        "UPDATE entries SET given = 0, due_at = ?, failures = failures + ? WHERE position = ? "
        "AND project_id = ? AND given = ?",
        (until, int(failed), _number(position), ownership.project_id, ownership.fence),
    )


def remember(tx: Transaction, key: str, seconds: float, settled: bool) -> Literal["new", "running", "done"]:
    """Note a delivery id; return what was known of it."""
    row = tx.db.execute(
        "SELECT settled FROM deliveries WHERE key = ? AND ends_at > ?", (key, tx.now)
    ).fetchone()
    if row is None or settled:
        # A few at each: the table shrinks as steadily as it grows.
        tx.db.execute(
            "DELETE FROM deliveries WHERE key IN "
            "(SELECT key FROM deliveries WHERE ends_at <= ? ORDER BY ends_at LIMIT 4)",
            (tx.now,),
        )
        tx.db.execute("INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?)", (key, settled, tx.now + seconds))
    return "new" if row is None else "done" if row[0] else "running"


def forget(tx: Transaction, key: str) -> None:
    """Take back a claim that is not settled."""
    tx.db.execute("DELETE FROM deliveries WHERE key = ? AND NOT settled", (key,))


def _held(db: sqlite3.Connection, project_id: str) -> tuple[int, int, float]:
    """Return count and bytes of what waits, and since when the first of it does."""
    row = db.execute("SELECT count, bytes FROM backlogs WHERE project_id = ?", (project_id,)).fetchone()
    if row is None:
        return 0, 0, 0.0
    first = "SELECT since FROM entries WHERE project_id = ? ORDER BY position LIMIT 1"
    [since] = db.execute(first, (project_id,)).fetchone()
    return row[0], row[1], since


def _next_version(tx: Transaction) -> int:
    tx.db.execute("UPDATE totals SET version = version + 1")
    return version(tx.db)


def _has_lease(tx: Transaction, owner: str) -> bool:
    alive = "SELECT 1 FROM leases WHERE owner = ? AND renewed_at <= ? AND ? < ends_at"
    return tx.db.execute(alive, (owner, tx.now, tx.now)).fetchone() is not None


def _check_owner(tx: Transaction, ownership: Ownership) -> None:
    stands = "SELECT 1 FROM ownerships WHERE project_id = ? AND owner = ? AND fence = ?"
    key = (ownership.project_id, ownership.owner, ownership.fence)
    if tx.db.execute(stands, key).fetchone() is None or not _has_lease(tx, ownership.owner):
        raise NotOwner(ownership.project_id)


def _next_due(tx: Transaction, project_id: str, in_order: bool) -> float | None:
    """Return when there is something to read again: of the first that is deferred, or the soonest of all."""
    row = tx.db.execute(
        "SELECT due_at FROM entries WHERE project_id = ? AND due_at > 0 AND due_at > ? "
        "ORDER BY CASE WHEN ? THEN position ELSE due_at END LIMIT 1",
        (project_id, tx.now, in_order),
    ).fetchone()
    return None if row is None else row[0]


def _number(position: str) -> int | None:
    return int(position) if position.isascii() and position.isdigit() and len(position) < 19 else None
