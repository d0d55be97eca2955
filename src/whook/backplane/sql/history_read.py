"""Reading the history: lists, the search for text, and single events.

Called by `history` inside transactions that only read. A search for text looks at whole events, decrypts
them where they are, and therefore stops after a bounded part of them: see `Scan`.
"""

from __future__ import annotations

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


def place(connection: Connection, event_id: str) -> EventPlace | None:
    """Return the project that an event is of."""
    found = sa.select(events.c.project_id, events.c.project)
    row = connection.execute(
        found.where(events.c.id == event_id, events.c.content.is_not(None))
    ).one_or_none()
    return None if row is None else EventPlace(project_id=row.project_id, project=row.project)


def count_dead(connection: Connection) -> dict[str, int]:
    """Return how many events are dead, by project id."""
    counted = sa.select(events.c.project_id, sa.func.count()).where(_DEAD).group_by(events.c.project_id)
    return {row[0]: row[1] for row in connection.execute(counted)}


def listing(connection: Connection, sealer: Sealer, project_id: str, query: EventQuery) -> list[EventSummary]:
    """Return the next events that meet all conditions but the text."""
    wanted = _wanted(connection, project_id, query, query.after)
    if wanted is None:
        return []
    columns = [*_LISTED, events.c.content] if sealer.seals else _LISTED
    rows = connection.execute(wanted.with_only_columns(*columns).limit(query.limit)).all()
    return [_summary(sealer, row) for row in rows]


def _wanted(connection: Connection, project_id: str, query: EventQuery, cursor: str) -> sa.Select[Any] | None:
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
    if cursor:
        at = _received_at(connection, project_id, cursor)
        if at is None:
            return None
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


def _received_at(connection: Connection, project_id: str, event_id: str) -> float | None:
    """Return when an event was received, by its id alone if it has been pruned; None for what is no id."""
    here = sa.select(events.c.received_at).where(events.c.id == event_id, events.c.project_id == project_id)
    at = connection.scalar(here)
    if at is None:
        try:
            at = id_milliseconds(event_id) / 1000
        except ValueError:
            return None
    return float(at)


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
        wanted = _wanted(connection, project_id, self._query, self.cursor)
        if wanted is None:
            self.over = True
            return
        sizes = connection.execute(
            wanted.with_only_columns(events.c.sequence, events.c.bytes).limit(self.PIECE)
        ).all()
        chosen: list[int] = []
        taken = 0
        for sequence, size in sizes:
            chosen.append(sequence)
            taken += size
            if taken >= self.PIECE_BYTES:
                break
        rows = {
            row.sequence: row
            for row in connection.execute(sa.select(events).where(events.c.sequence.in_(chosen)))
        }
        self._bytes += taken
        for sequence in chosen:
            row = rows[sequence]
            self.cursor = row.id
            self._events += 1
            if self._matches(connection, sealer, row):
                self.found.append(_summary(sealer, row))
                if len(self.found) == self._query.limit:
                    self.over = True
                    return
        self.over = len(chosen) == len(sizes) < self.PIECE

    def _matches(self, connection: Connection, sealer: Sealer, row: Row[Any]) -> bool:
        event = decode_content(sealer.open(row.content, row.id)).event
        needle = self._needle
        if needle in event.method.lower() or needle in event.target.lower():
            return True
        if any(needle in b"%b: %b" % (name.lower(), value.lower()) for name, value in event.headers):
            return True
        body = event.body
        if body is None and row.apart:
            body = get_body(connection, sealer, row.id)
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
    return [_summary(sealer, row) for row in connection.execute(wanted)]


def detail(connection: Connection, sealer: Sealer, project_id: str, event_id: str) -> EventDetail | None:
    """Return an event with everything."""
    here = sa.select(events).where(
        events.c.id == event_id, events.c.project_id == project_id, events.c.content.is_not(None)
    )
    row = connection.execute(here).one_or_none()
    if row is None:
        return None
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


def _summary(sealer: Sealer, row: Row[Any]) -> EventSummary:
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
