"""Packs: many events of one project in one row, which costs a fraction of as many rows.

Called by `history_write` to make them, and by `history_read` and `history_prune`. A pack is written once and
never changed; it is deleted when it is pruned, or when there is more news of one of its events, which then
all become rows. All in a pack were made within `SPAN_MILLISECONDS`, so that an id says where to look for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from whook.backplane.ports import EncodedRecord, EventQuery, EventSummary, Record, StoredEvent, has_failed
from whook.backplane.sql.history_tables import packs
from whook.chassis.ids import id_bound, id_milliseconds, is_id
from whook.chassis.sealing import Sealer

SPAN_MILLISECONDS: Final = 60_000
PREFIX: Final = "evt"
ID_BYTES: Final = 30
"""Length of the ids of events."""
MOST_EVER: Final = 4_096
"""More events than any version ever puts into a pack."""
_FETCHED: Final = 4
"""Packs read at a time: about 1 MiB at most."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Record]).decode
_INVERTED: Final = bytes(255 - byte for byte in range(256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """When events share a row."""

    least: int = 16
    """Events of one project in a batch: fewer become rows."""
    most: int = 256
    """Events in a pack: whoever wants one of them reads all."""
    most_bytes: int = 524_288
    """Of what its events are, in all, unless it holds but one."""


# -- writing ------------------------------------------------------------------------------------------------


def oldest_packable(ids: Collection[str]) -> str:
    """Return the least id that may be in a pack with the youngest of these. Raises ValueError for other ids.

    What was made much earlier, a request that took long, could not be found again by its id.
    """
    youngest = max(ids)
    if {len(i) for i in ids} != {ID_BYTES} or not is_id(youngest, PREFIX) or not is_id(min(ids), PREFIX):
        raise ValueError("not the ids of events")
    return id_bound(PREFIX, id_milliseconds(youngest) - SPAN_MILLISECONDS)


def groups(news: Sequence[EncodedRecord], packing: Packing) -> Iterator[Sequence[EncodedRecord]]:
    """Cut news of one project into what shares a row."""
    waiting = deque(news[start : start + packing.most] for start in range(0, len(news), packing.most))
    while waiting:
        group = waiting.popleft()
        if len(group) > 1 and sum([len(item.data) for item in group]) > packing.most_bytes:
            half = len(group) // 2
            waiting.extendleft((group[half:], group[:half]))
        else:
            yield group


def pack_row(sealer: Sealer, group: Sequence[EncodedRecord], sequence: int) -> tuple[Any, ...]:
    """Return the row of a pack, in the order of the table's columns."""
    ids = [item.event_id for item in group]
    times = [item.received_at for item in group]
    content = sealer.seal(_encode([msgspec.Raw(item.data) for item in group]), ids[0])
    known = "".join(ids).encode()
    return (
        sequence,
        group[0].project_id,
        min(times),
        max(times),
        min(ids),
        max(ids),
        len(group),
        sum([item.refused for item in group]),
        sum([item.failed for item in group]),
        len(content) + len(known),
        known,
        content,
    )


def packs_holding(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Return for each of these ids that is in a pack the pack's sequence. Ids made together cost least."""
    found: dict[str, int] = {}
    wanted = sorted({i for i in ids if len(i) == ID_BYTES})
    while wanted:
        if not is_id(wanted[0], PREFIX):
            del wanted[0]
            continue
        # All that were made within one span, in one look.
        first_beyond = bisect_right(wanted, _upper(wanted[0]))
        some, wanted = wanted[:first_beyond], wanted[first_beyond:]
        here = sa.select(packs.c.sequence, packs.c.first_id, packs.c.last_id).where(
            packs.c.last_id >= some[0], packs.c.last_id <= _upper(some[0], 2), packs.c.first_id <= some[-1]
        )
        for row in connection.execute(here).all():
            inside = {i for i in some if row.first_id <= i <= row.last_id}
            if inside:
                its = sa.select(packs.c.ids).where(packs.c.sequence == row.sequence)
                known: bytes = connection.execute(its).scalar_one()
                sequence: int = row.sequence
                found |= dict.fromkeys(inside.intersection(_ids(known)), sequence)
    return found


def take_out(connection: Connection, sealer: Sealer, sequence: int) -> tuple[int, list[Record]]:
    """Delete a pack; return how many bytes it took, and its records in their order."""
    row = connection.execute(sa.select(packs).where(packs.c.sequence == sequence)).one()
    connection.execute(packs.delete().where(packs.c.sequence == sequence))
    return row.bytes, _open(sealer, row)


def _ids(known: bytes) -> list[str]:
    text = known.decode()
    return [text[start : start + ID_BYTES] for start in range(0, len(text), ID_BYTES)]


def _upper(event_id: str, spans: int = 1) -> str:
    return id_bound(PREFIX, id_milliseconds(event_id) + spans * SPAN_MILLISECONDS)


def _open(sealer: Sealer, row: Row[Any]) -> list[Record]:
    return _decode(sealer.open(row.content, row.ids[:ID_BYTES].decode()))


# -- reading ------------------------------------------------------------------------------------------------


class Packed(NamedTuple):
    """An event in a pack."""

    sequence: int
    size: int
    """Bytes that it takes, roughly."""
    record: Record

    @property
    def event(self) -> StoredEvent:
        """The event itself, which is in every record of a pack."""
        assert self.record.event is not None
        return self.record.event

    def summary(self) -> EventSummary:
        """Return its line in a list."""
        event, delivery = self.event, self.record.delivery
        return EventSummary(
            id=event.id,
            sequence=self.sequence,
            project_id=event.project_id,
            project=event.project,
            received_at=event.received_at,
            method=event.method.decode("latin-1"),
            target=event.target.decode("utf-8", "backslashreplace"),
            peer=event.peer,
            body_size=event.body_size,
            state=self.record.state,
            deliveries=int(delivery is not None),
            last_status=0 if delivery is None else delivery.status,
            last_problem="" if delivery is None else delivery.problem,
            last_duration=0.0 if delivery is None else delivery.duration,
        )


Place = tuple[float, bytes]
"""Where an event stands in a list: sorts in the order asked for."""


def place(query: EventQuery, received_at: float, event_id: str) -> Place:
    """Return where an event stands in the list that is asked for."""
    if query.oldest_first:
        return received_at, event_id.encode()
    return -received_at, event_id.encode().translate(_INVERTED)


def packed(
    connection: Connection, sealer: Sealer, project_id: str, query: EventQuery, after: Place | None
) -> Iterator[tuple[Place, Packed]]:
    """Give the events in packs that meet all conditions but the text, in the order asked for.

    Those behind `after`, if it is given. Packs overlap in time: an event is given out once every pack that
    may hold an earlier one has been opened.
    """
    waiting: list[tuple[Place, Packed]] = []
    for row in _rows(connection, project_id, query, after):
        begins = row.first_at if query.oldest_first else -row.last_at
        while waiting and waiting[0][0][0] < begins:
            yield heappop(waiting)
        for one in _events(sealer, row):
            here = place(query, one.event.received_at, one.event.id)
            if (after is None or here > after) and _meets(query, one.record, one.event.received_at):
                heappush(waiting, (here, one))
    while waiting:
        yield heappop(waiting)


def _meets(query: EventQuery, record: Record, at: float) -> bool:
    if (query.since is not None and at < query.since) or (query.until is not None and at >= query.until):
        return False
    if query.states and record.state not in query.states:
        return False
    return not query.failed or has_failed(record.delivery)


def _rows(
    connection: Connection, project_id: str, query: EventQuery, after: Place | None
) -> Iterator[Row[Any]]:
    """Give the packs in which something may be wanted, by the time at which they begin in the list."""
    wanted = sa.select(packs).where(packs.c.project_id == project_id)
    if query.states:
        if "answered" not in query.states and "refused" not in query.states:
            return
        if "answered" not in query.states:
            wanted = wanted.where(packs.c.refused > 0)
        elif "refused" not in query.states:
            wanted = wanted.where(packs.c.refused < packs.c.events)
    if query.failed:
        wanted = wanted.where(packs.c.failed > 0)
    if query.since is not None:
        wanted = wanted.where(packs.c.last_at >= query.since)
    if query.until is not None:
        wanted = wanted.where(packs.c.first_at < query.until)
    if query.oldest_first:
        begins = packs.c.first_at
        if after is not None:
            wanted = wanted.where(packs.c.last_at >= after[0])
    else:
        begins = packs.c.last_at
        if after is not None:
            wanted = wanted.where(packs.c.first_at <= -after[0])
    here = sa.tuple_(begins, packs.c.sequence)
    columns = (begins, packs.c.sequence)
    wanted = wanted.order_by(*(columns if query.oldest_first else [column.desc() for column in columns]))
    fetched = connection.execute(wanted.limit(_FETCHED)).all()
    while fetched:
        yield from fetched
        last = fetched[-1]
        at = last.first_at if query.oldest_first else last.last_at
        there = sa.tuple_(sa.literal(at, sa.Double), sa.literal(last.sequence, sa.BigInteger))
        beyond = here > there if query.oldest_first else here < there
        fetched = connection.execute(wanted.where(beyond).limit(_FETCHED)).all()


def packed_after(
    connection: Connection, sealer: Sealer, project_id: str, after: int, limit: int
) -> list[Packed]:
    """Return events in packs recorded after a sequence, in that order; with -1 the newest."""
    wanted = sa.select(packs).where(packs.c.project_id == project_id)
    if after < 0:
        newest = connection.execute(wanted.order_by(packs.c.sequence.desc()).limit(1)).one_or_none()
        return [] if newest is None else _events(sealer, newest)[-1:]
    found: list[Packed] = []
    while len(found) < limit:
        near = wanted.where(
            packs.c.sequence > after - MOST_EVER, packs.c.sequence + packs.c.events > after + 1
        )
        row = connection.execute(near.order_by(packs.c.sequence).limit(1)).one_or_none()
        if row is None:
            break
        found += [one for one in _events(sealer, row) if one.sequence > after]
        after = found[-1].sequence
    return found[:limit]


def find_packed(connection: Connection, sealer: Sealer, event_id: str) -> Packed | None:
    """Return one event if it is in a pack."""
    sequence = packs_holding(connection, [event_id]).get(event_id)
    if sequence is None:
        return None
    row = connection.execute(sa.select(packs).where(packs.c.sequence == sequence)).one()
    return next(one for one in _events(sealer, row) if one.record.event_id == event_id)


def _events(sealer: Sealer, row: Row[Any]) -> list[Packed]:
    size = row.bytes // row.events
    return [Packed(row.sequence + number, size, record) for number, record in enumerate(_open(sealer, row))]
