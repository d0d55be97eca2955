"""Recording: news of events become rows, each news counted once however often and in whatever order it comes.

Called by `history` inside a transaction. New events with their live delivery, nearly all there is, are
inserted in one go, many of one project as packs. Everything else is merged event by event: of two states the
later one stands, a delivery is known by its number and its beginning.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from whook.backplane.ports import Delivery, EncodedRecord, News, Record, StoredEvent
from whook.backplane.sql.bodies import put_body
from whook.backplane.sql.bulk import insert_all
from whook.backplane.sql.history_packs import (
    Packing,
    groups,
    oldest_packable,
    pack_row,
    packs_holding,
    take_out,
)
from whook.backplane.sql.history_tables import (
    EVENT_COLUMNS,
    ROW_BYTES,
    Brief,
    Content,
    deliveries,
    encode,
    events,
    packs,
    totals,
)
from whook.chassis.sealing import Sealer

APART_BYTES: Final = 262_144
"""Longer bodies are not in the event's row."""
_MERGED_AT_ONCE: Final = 200
_STATE_RANK: Final = {"buffered": 0, "refused": 1, "dead": 2, "answered": 3}
"""Which of two states stands that were reached at the same time."""

Row = tuple[Any, ...]


class Totals:
    """The counters of the whole history, held for the length of a transaction."""

    def __init__(self, connection: Connection) -> None:
        """Lock and read them: others who write wait here."""
        self._connection = connection
        row = connection.execute(sa.select(totals).with_for_update()).one()
        self.sequence: int = row.sequence
        self.events: int = row.events
        self.bytes: int = row.bytes

    def store(self) -> None:
        """Write them back."""
        self._connection.execute(
            totals.update().values(sequence=self.sequence, events=self.events, bytes=self.bytes)
        )


def record(connection: Connection, sealer: Sealer, news: Sequence[News], packing: Packing) -> None:
    """Store news of events."""
    held = Totals(connection)
    in_packs = packs_holding(connection, [item.event_id for item in news])
    records = _pack_all(connection, sealer, news, packing, set(in_packs), held)
    for pack in {in_packs[item.event_id] for item in records if item.event_id in in_packs}:
        _unpack(connection, sealer, pack, held)
    if records:
        _record(connection, sealer, records, held)
    held.store()


def _pack_all(
    connection: Connection,
    sealer: Sealer,
    news: Sequence[News],
    packing: Packing,
    in_packs: set[str],
    held: Totals,
) -> list[Record]:
    """Store in packs what may be; return what is left. What is in a pack as it is now changes nothing."""
    by_project: dict[str, dict[str, EncodedRecord]] = {}
    left = [item for item in news if isinstance(item, Record)]
    more_to_come = {item.event_id for item in left}
    for item in news:
        if isinstance(item, Record):
            continue
        if item.event_id in more_to_come:
            left.append(item.decode())
        elif item.event_id not in in_packs:
            by_project.setdefault(item.project_id, {})[item.event_id] = item
    rows: list[Row] = []
    for project_id, items in by_project.items():
        apart = _not_packable(connection, project_id, items, packing)
        left += [items.pop(event_id).decode() for event_id in apart]
        for group in groups(list(items.values()), packing):
            rows.append(pack_row(sealer, group, held.sequence + 1))
            held.sequence += len(group)
            held.events += len(group)
            held.bytes += rows[-1][_PACK_BYTES]
    if not insert_all(connection, packs, rows):
        raise RuntimeError("the history has packs that it did not have a moment ago, though it is locked")
    return left


def _not_packable(
    connection: Connection, project_id: str, ids: Collection[str], packing: Packing
) -> set[str]:
    """Return those of these ids that are to have rows, or have them already."""
    if len(ids) < packing.least:
        return set(ids)
    try:
        oldest = oldest_packable(ids)
    except ValueError:
        return set(ids)
    here = sa.select(events.c.id).where(
        events.c.id >= oldest, events.c.id <= max(ids), events.c.project_id == project_id
    )
    return {i for i in ids if i < oldest}.union(set(connection.scalars(here)).intersection(ids))


def _unpack(connection: Connection, sealer: Sealer, sequence: int, held: Totals) -> None:
    """Make rows of the events of a pack."""
    size, records = take_out(connection, sealer, sequence)
    rows = [_fresh_row(connection, sealer, news, sequence + number) for number, news in enumerate(records)]
    if not insert_all(connection, events, rows):
        raise RuntimeError("an event of the history is in a pack, and has a row as well")
    held.bytes += sum(row[_BYTES] for row in rows) - size


def _record(connection: Connection, sealer: Sealer, records: Sequence[Record], held: Totals) -> None:
    seen: set[str] = set()
    fresh: list[Record] = []
    merged: list[Record] = []
    for news in records:
        new = news.event is not None and news.event_id not in seen
        if new and (news.delivery is None or news.delivery.origin == "live"):
            fresh.append(news)
        else:
            merged.append(news)
        seen.add(news.event_id)
    rows: list[Row] = []
    for news in fresh:
        held.sequence += 1
        rows.append(_fresh_row(connection, sealer, news, held.sequence))
    if insert_all(connection, events, rows):
        held.events += len(rows)
        held.bytes += sum(row[_BYTES] for row in rows)
    else:
        merged = list(records)
    _merge_all(connection, sealer, merged, held)


_BYTES: Final = EVENT_COLUMNS.index("bytes")
_PACK_BYTES: Final = tuple(packs.columns.keys()).index("bytes")


def _fresh_row(connection: Connection, sealer: Sealer, news: Record, sequence: int) -> Row:
    event, delivery = news.event, news.delivery
    assert event is not None
    content, size, apart = _content(connection, sealer, event, delivery)
    size += ROW_BYTES
    brief = None if sealer.seals else encode(Brief(event.target, event.peer))
    head = (
        sequence,
        event.id,
        event.project_id,
        event.project,
        event.received_at,
        news.state,
        news.at,
        event.method.decode("latin-1"),
        event.body_size,
        size,
        apart,
    )
    if delivery is None:
        return (*head, 0, 0, 0.0, 0.0, 0, "", 0.0, brief, content)
    attempt, began = delivery.attempt, delivery.began_at
    last = (began, delivery.status, delivery.problem, delivery.duration)
    return (*head, 1, attempt, began, *last, brief, content)


def _content(
    connection: Connection, sealer: Sealer, event: StoredEvent, delivery: Delivery | None
) -> tuple[bytes, int, int]:
    """Return what is stored of an event in its row, how many bytes it takes in all, and `events.apart`."""
    apart = 0
    size = 0
    body = event.body
    if body is None:
        apart = int(event.body_size > 0)
        size = event.body_size
    elif len(body) > APART_BYTES:
        put_body(connection, sealer, event.id, body)
        event = msgspec.structs.replace(event, body=None)
        apart = 1
        size = len(body)
    content = sealer.seal(encode(Content(event, delivery)), event.id)
    return content, size + len(content), apart


# -- everything that is not new ---------------------------------------------------------------------------

_STANDING: Final = [column for column in events.columns if column.name not in {"brief", "content"}]


def _merge_all(connection: Connection, sealer: Sealer, records: Sequence[Record], held: Totals) -> None:
    by_event: dict[str, list[Record]] = {}
    for news in records:
        by_event.setdefault(news.event_id, []).append(news)
    ids = list(by_event)
    for first in range(0, len(ids), _MERGED_AT_ONCE):
        _merge(connection, sealer, {i: by_event[i] for i in ids[first : first + _MERGED_AT_ONCE]}, held)


def _merge(connection: Connection, sealer: Sealer, by_event: dict[str, list[Record]], held: Totals) -> None:
    ids = list(by_event)
    present = events.c.content.is_not(None).label("present")
    stored = sa.select(*_STANDING, present).where(events.c.id.in_(ids))
    found = {row["id"]: dict(row) for row in connection.execute(stored).mappings()}
    keys = sa.select(deliveries.c.event_id, deliveries.c.attempt, deliveries.c.began_at)
    known = {tuple(row) for row in connection.execute(keys.where(deliveries.c.event_id.in_(ids)))}
    inserts: list[Row] = []
    updates: list[dict[str, Any]] = []
    tried: list[Row] = []
    for event_id, records in by_event.items():
        standing = found.get(event_id)
        is_new = standing is None
        if standing is None:
            standing = _stub(records[0])
            held.events += 1
        before = standing["bytes"] if not is_new else 0
        for news in records:
            _apply(connection, sealer, standing, news, held)
            if news.delivery is not None:
                tried += _tried(sealer, standing, news.delivery, known)
        held.bytes += standing["bytes"] - before
        del standing["present"]
        if is_new:
            standing.setdefault("brief", None)
            standing.setdefault("content", None)
            inserts.append(tuple(standing[name] for name in EVENT_COLUMNS))
        else:
            updates.append({f"new_{name}": value for name, value in standing.items()} | {"the_id": event_id})
    if not insert_all(connection, events, inserts) or not insert_all(connection, deliveries, tried):
        raise RuntimeError("the history has rows that it did not have a moment ago, though it is locked")
    _update(connection, updates)


def _update(connection: Connection, updates: list[dict[str, Any]]) -> None:
    """Write rows back; those whose content has come only now in a statement of their own."""
    for with_content in (False, True):
        some = [update for update in updates if ("new_content" in update) is with_content]
        if some:
            names = [name for name in EVENT_COLUMNS if f"new_{name}" in some[0]]
            change: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in names}
            connection.execute(
                events.update().where(events.c.id == sa.bindparam("the_id")).values(change), some
            )


def _stub(news: Record) -> dict[str, Any]:
    """Return the row of an event of which nothing is known but this."""
    return {
        "sequence": 0,
        "id": news.event_id,
        "project_id": news.project_id,
        "project": "",
        "received_at": news.at,
        "state": news.state,
        "state_at": news.at,
        "method": "",
        "body_size": 0,
        "bytes": ROW_BYTES,
        "apart": 0,
        "deliveries": 0,
        "inline_attempt": 0,
        "inline_at": 0.0,
        "last_at": 0.0,
        "last_status": 0,
        "last_problem": "",
        "last_duration": 0.0,
        "present": False,
    }


def _apply(
    connection: Connection, sealer: Sealer, standing: dict[str, Any], news: Record, held: Totals
) -> None:
    """Let the event and the state of one piece of news count."""
    event = news.event
    if event is not None and not standing["present"]:
        content, size, apart = _content(connection, sealer, event, None)
        held.sequence += 1
        standing.update(
            sequence=held.sequence,
            project=event.project,
            project_id=event.project_id,
            received_at=event.received_at,
            method=event.method.decode("latin-1"),
            body_size=event.body_size,
            bytes=standing["bytes"] + size,
            apart=apart,
            brief=None if sealer.seals else encode(Brief(event.target, event.peer)),
            content=content,
            present=True,
        )
    elif not standing["sequence"]:
        held.sequence += 1
        standing["sequence"] = held.sequence
    reached = (news.at, _STATE_RANK[news.state])
    if reached >= (standing["state_at"], _STATE_RANK[standing["state"]]):
        standing["state_at"], standing["state"] = news.at, news.state


def _tried(sealer: Sealer, standing: dict[str, Any], delivery: Delivery, known: set[Row]) -> list[Row]:
    """Let a delivery count unless it has; return its row if it needs one."""
    event_id: str = standing["id"]
    key = (event_id, delivery.attempt, delivery.began_at)
    if key in known or key == (event_id, standing["inline_attempt"], standing["inline_at"]):
        return []
    known.add(key)
    content = sealer.seal(encode(delivery), f"{event_id}/{delivery.attempt}")
    standing["deliveries"] += 1
    standing["bytes"] += len(content) + ROW_BYTES // 4
    if delivery.began_at >= standing["last_at"]:
        standing["last_at"] = delivery.began_at
        standing["last_status"] = delivery.status
        standing["last_problem"] = delivery.problem
        standing["last_duration"] = delivery.duration
    return [(*key, content)]
