"""Reading the history: lists, the search for text, and single events.

Called by `history` inside transactions that only read. What is in rows and what is in packs is merged into
one order. A search for text looks at whole events, decrypts them where they are, and therefore stops after a
bounded part of them: see `Scan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Any, Final, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from whook.backplane.ports import (
    Delivery,
    EventDetail,
    EventPlace,
    EventQuery,
    EventSummary,
    State,
    StoredEvent,
)
from whook.backplane.sql.bodies import get_body
from whook.backplane.sql.history_packs import Packed, Place, find_packed, packed, packed_after, place
from whook.backplane.sql.history_tables import (
    decode_brief,
    decode_content,
    decode_delivery,
    deliveries,
    events,
)
from whook.chassis.ids import id_milliseconds
from whook.chassis.sealing import Sealer

_LISTED: Final = [column for column in events.columns if column.name != "content"]
_FAILED: Final = sa.or_(
    events.c.state == "dead",
    sa.and_(
        events.c.deliveries > 0,
        sa.or_(events.c.last_problem != "", events.c.last_status == 0, events.c.last_status >= 400),
    ),
)


_DEAD: Final = events.c.state == sa.literal_column("'dead'")
sa.Index("ix_events_dead", events.c.project_id, sqlite_where=_DEAD, postgresql_where=_DEAD)
"""Dead letters are few among very many. Written out: no planner knows what a parameter will be."""


def locate(connection: Connection, sealer: Sealer, event_id: str) -> EventPlace | None:
    """Return the project that an event is of."""
    found = sa.select(events.c.project_id, events.c.project)
    row = connection.execute(
        found.where(events.c.id == event_id, events.c.content.is_not(None))
    ).one_or_none()
    if row is not None:
        return EventPlace(project_id=row.project_id, project=row.project)
    found_packed = find_packed(connection, sealer, event_id)
    if found_packed is None:
        return None
    return EventPlace(project_id=found_packed.event.project_id, project=found_packed.event.project)


def count_dead(connection: Connection) -> dict[str, int]:
    """Return how many events are dead, by project id."""
    counted = sa.select(events.c.project_id, sa.func.count()).where(_DEAD).group_by(events.c.project_id)
    return {row[0]: row[1] for row in connection.execute(counted)}


def listing(connection: Connection, sealer: Sealer, project_id: str, query: EventQuery) -> list[EventSummary]:
    """Return the next events that meet all conditions but the text."""
    try:
        after = _place_of(connection, sealer, project_id, query, query.after)
    except ValueError:
        return []
    columns = [*_LISTED, events.c.content] if sealer.seals else _LISTED
    wanted = _wanted(project_id, query, query.after, after).with_only_columns(*columns)
    rows = _placed(query, connection.execute(wanted.limit(query.limit)).all())
    every = merge(rows, packed(connection, sealer, project_id, query, after), key=itemgetter(0))
    return [_summary(sealer, found) for _, found in islice(every, query.limit)]


def _placed(
    query: EventQuery, rows: Sequence[Row[*tuple[Any, ...]]]
) -> list[tuple[Place, Packed | Row[Any]]]:
    return [(place(query, row.received_at, row.id), row) for row in rows]


def _wanted(project_id: str, query: EventQuery, cursor: str, after: Place | None) -> sa.Select[Any]:
    """Select the rows, in their order, behind a cursor and its place."""
    received, order = events.c.received_at, (events.c.received_at, events.c.id)
    wanted = sa.select(events).where(events.c.project_id == project_id, events.c.content.is_not(None))
    if query.since is not None:
        wanted = wanted.where(received >= query.since)
    if query.until is not None:
        wanted = wanted.where(received < query.until)
    if query.states:
        wanted = wanted.where(events.c.state.in_(query.states))
    if query.failed:
        wanted = wanted.where(_FAILED)
    if after is not None:
        at = abs(after[0])
        here = sa.tuple_(*order)
        place = sa.tuple_(sa.literal(at, sa.Double), sa.literal(cursor, sa.String))
        # The condition on the time alone is what the index is used for.
        if query.oldest_first:
            wanted = wanted.where(received >= at, here > place)
        else:
            wanted = wanted.where(received <= at, here < place)
    if query.oldest_first:
        return wanted.order_by(*order)
    return wanted.order_by(*(column.desc() for column in order))


def _place_of(
    connection: Connection, sealer: Sealer, project_id: str, query: EventQuery, event_id: str
) -> Place | None:
    """Return where an event stands, by its id alone if it has been pruned; None where no event is given.

    Raises ValueError for what is no id.
    """
    if not event_id:
        return None
    here = sa.select(events.c.received_at).where(events.c.id == event_id, events.c.project_id == project_id)
    at = connection.scalar(here)
    if at is None and (found := find_packed(connection, sealer, event_id)) is not None:
        at = found.event.received_at
    if at is None:
        at = id_milliseconds(event_id) / 1000
    return place(query, float(at), event_id)


class Scan:
    """What one search for text may cost, and what it has cost so far."""

    MAX_EVENTS: Final = 20_000
    """Events that are looked into: some 2 s of one thread without large bodies."""
    MAX_BYTES: Final = 268_435_456
    """Bytes that are looked into."""
    PIECE: Final = 200
    """Events, and about 4 MiB, that one transaction looks into."""
    PIECE_BYTES: Final = 4_194_304

    def __init__(self, query: EventQuery) -> None:
        self._query = query
        # Whatever a command line could not decode stands for its bytes.
        self._needle = query.grep.encode("utf-8", "surrogateescape").lower()
        self._events = 0
        self._bytes = 0
        self.cursor = query.after
        """The last event that was looked into."""
        self.found: list[EventSummary] = []
        self.over = False
        """All that is wanted was found, or there is no more."""

    @property
    def exhausted(self) -> bool:
        """Whether it has cost what it may."""
        return self._events >= self.MAX_EVENTS or self._bytes >= self.MAX_BYTES

    def piece(self, connection: Connection, sealer: Sealer, project_id: str) -> None:
        """Look into some more events."""
        query = self._query
        try:
            after = _place_of(connection, sealer, project_id, query, self.cursor)
        except ValueError:
            self.over = True
            return
        columns = (events.c.sequence, events.c.bytes, events.c.received_at, events.c.id)
        wanted = _wanted(project_id, query, self.cursor, after).with_only_columns(*columns)
        rows = _placed(query, connection.execute(wanted.limit(self.PIECE)).all())
        chosen: list[Packed | Row[Any]] = []
        taken = 0
        every = merge(rows, packed(connection, sealer, project_id, query, after), key=itemgetter(0))
        for _, one in islice(every, self.PIECE):
            chosen.append(one)
            taken += one.size if isinstance(one, Packed) else one.bytes
            if taken >= self.PIECE_BYTES:
                break
        sequences = [one.sequence for one in chosen if not isinstance(one, Packed)]
        contents = sa.select(events).where(events.c.sequence.in_(sequences))
        whole = {row.sequence: row for row in connection.execute(contents)}
        self._bytes += taken
        for one in chosen:
            found = one if isinstance(one, Packed) else whole[one.sequence]
            self._events += 1
            event, apart = _content(sealer, found)
            self.cursor = event.id
            if self._matches(connection, sealer, event, apart=apart):
                self.found.append(_summary(sealer, found))
                if len(self.found) == query.limit:
                    self.over = True
                    return
        self.over = taken < self.PIECE_BYTES and len(chosen) < self.PIECE

    def _matches(self, connection: Connection, sealer: Sealer, event: StoredEvent, *, apart: bool) -> bool:
        needle = self._needle
        if needle in event.method.lower() or needle in event.target.lower():
            return True
        if any(needle in b"%b: %b" % (name.lower(), value.lower()) for name, value in event.headers):
            return True
        body = event.body
        if body is None and apart:
            body = get_body(connection, sealer, event.id)
        return body is not None and needle in body.lower()


def following(
    connection: Connection, sealer: Sealer, project_id: str, after: int, limit: int
) -> list[EventSummary]:
    """Return events recorded after a sequence; with -1 the newest."""
    columns = [*_LISTED, events.c.content] if sealer.seals else _LISTED
    wanted = sa.select(*columns).where(events.c.project_id == project_id, events.c.content.is_not(None))
    if after < 0:
        wanted = wanted.order_by(events.c.sequence.desc()).limit(1)
    else:
        wanted = wanted.where(events.c.sequence > after).order_by(events.c.sequence).limit(limit)
    found = [_summary(sealer, row) for row in connection.execute(wanted)]
    found += [_summary(sealer, one) for one in packed_after(connection, sealer, project_id, after, limit)]
    found.sort(key=attrgetter("sequence"))
    return found[-1:] if after < 0 else found[:limit]


def detail(connection: Connection, sealer: Sealer, project_id: str, event_id: str) -> EventDetail | None:
    """Return an event with everything."""
    here = sa.select(events).where(
        events.c.id == event_id, events.c.project_id == project_id, events.c.content.is_not(None)
    )
    row = connection.execute(here).one_or_none()
    if row is None:
        return _packed_detail(connection, sealer, project_id, event_id)
    content = decode_content(sealer.open(row.content, event_id))
    event: StoredEvent = content.event
    if event.body is None and row.apart:
        body = get_body(connection, sealer, event_id)
        event = msgspec.structs.replace(event, body=body)
    tried: list[Delivery] = [] if content.delivery is None else [content.delivery]
    later = sa.select(deliveries).where(deliveries.c.event_id == event_id)
    tried += [
        decode_delivery(sealer.open(kept.content, f"{event_id}/{kept.attempt}"))
        for kept in connection.execute(later)
    ]
    tried.sort(key=lambda delivery: (delivery.began_at, delivery.attempt))
    return EventDetail(summary=_summary(sealer, row), event=event, deliveries=tried)


def _packed_detail(
    connection: Connection, sealer: Sealer, project_id: str, event_id: str
) -> EventDetail | None:
    found = find_packed(connection, sealer, event_id)
    if found is None or found.record.project_id != project_id:
        return None
    delivery = found.record.delivery
    return EventDetail(
        summary=found.summary(),
        event=found.event,
        deliveries=[] if delivery is None else [delivery],
    )


def _content(sealer: Sealer, found: Packed | Row[Any]) -> tuple[StoredEvent, bool]:
    """Return an event, and whether its body is to be looked for elsewhere."""
    if isinstance(found, Packed):
        return found.event, False
    return decode_content(sealer.open(found.content, found.id)).event, bool(found.apart)


def _summary(sealer: Sealer, row: Packed | Row[Any]) -> EventSummary:
    if isinstance(row, Packed):
        return row.summary()
    if row.brief is not None:
        brief = decode_brief(row.brief)
        target, peer = brief.target, brief.peer
    else:
        event = decode_content(sealer.open(row.content, row.id)).event
        target, peer = event.target, event.peer
    return EventSummary(
        id=row.id,
        sequence=row.sequence,
        project_id=row.project_id,
        project=row.project,
        received_at=row.received_at,
        method=row.method,
        target=target.decode("utf-8", "backslashreplace"),
        peer=peer,
        body_size=row.body_size,
        state=cast("State", row.state),
        deliveries=row.deliveries,
        last_status=row.last_status,
        last_problem=row.last_problem,
        last_duration=row.last_duration,
    )
