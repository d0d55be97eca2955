"""The tables of the history, and the records in their binary columns.

Used by the modules of the history in this folder alone. An event is one row, with its live delivery in the
same one; later deliveries and large bodies have tables of their own. Where one project gets many webhooks at
a time, those that are done with at once share a row, a *pack*: that is what recording costs on a busy server.
An event is in one of the two places, never in both, and leaves its pack for a row when there is more news of
it.

What can be read without the key, where there is one: ids, the project, times, sizes, the method, the state,
and status, problem and duration of the last delivery. Sealed are target, peer, head fields, bodies and
responses.
"""

from __future__ import annotations

from typing import Final

import msgspec
import sqlalchemy as sa

from whook.backplane.ports import Delivery, StoredEvent
from whook.backplane.sql.projects import metadata

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

events = sa.Table(
    "events",
    metadata,
    sa.Column("sequence", _BIG, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("project", sa.String(63), nullable=False),
    sa.Column("received_at", sa.Double, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("state_at", sa.Double, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("body_size", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False, comment="what it takes, with deliveries and body"),
    sa.Column("apart", sa.SmallInteger, nullable=False, comment="1: the body is in bodies, if it was kept"),
    sa.Column("deliveries", sa.Integer, nullable=False),
    sa.Column("inline_attempt", sa.Integer, nullable=False, comment="of the delivery in content; 0: none"),
    sa.Column("inline_at", sa.Double, nullable=False),
    sa.Column("last_at", sa.Double, nullable=False),
    sa.Column("last_status", sa.Integer, nullable=False),
    sa.Column("last_problem", sa.Text, nullable=False),
    sa.Column("last_duration", sa.Double, nullable=False),
    sa.Column("brief", sa.LargeBinary, comment="Brief; null where content is encrypted"),
    sa.Column("content", sa.LargeBinary, comment="Content, sealed; null: only a delivery is known as yet"),
    sa.Index("ix_events_received", "project_id", "received_at"),
    sa.Index("ix_events_recorded", "project_id", "sequence"),
)

packs = sa.Table(
    "packs",
    metadata,
    sa.Column("sequence", _BIG, primary_key=True, autoincrement=False, comment="of its first event"),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("first_at", sa.Double, nullable=False, comment="the earliest received_at in it"),
    sa.Column("last_at", sa.Double, nullable=False),
    sa.Column("first_id", sa.String(64), nullable=False, comment="the least id in it"),
    sa.Column("last_id", sa.String(64), nullable=False),
    sa.Column("events", sa.Integer, nullable=False, comment="how many; their sequences have no gap"),
    sa.Column("refused", sa.Integer, nullable=False, comment="how many of them are in that state"),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("ids", sa.LargeBinary, nullable=False, comment="of its events in their order, 30 bytes each"),
    sa.Column("content", sa.LargeBinary, nullable=False, comment="array of Record, sealed"),
    sa.Index("ix_packs_begun", "project_id", "first_at"),
    sa.Index("ix_packs_ended", "project_id", "last_at"),
    sa.Index("ix_packs_recorded", "project_id", "sequence"),
    sa.Index("ix_packs_ids", "last_id"),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("event_id", sa.String(64), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("began_at", sa.Double, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False, comment="Delivery, sealed"),
)

bodies = sa.Table(
    "bodies",
    metadata,
    sa.Column("event_id", sa.String(64), primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("stored_at", sa.Double, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False, comment="sealed"),
)

totals = sa.Table(
    "history_totals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False, comment="the last that was given out"),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("pruned_at", sa.Double, nullable=False, comment="when somebody last began to prune"),
)
"""One row. Whoever writes to the history locks it first, so that sequences become visible in their order: a
reader that has seen one will never find a smaller one later."""

ROW_BYTES: Final = 400
"""What the columns of an event and its places in the indexes take beside its contents, roughly."""
EVENT_COLUMNS: Final = tuple(column.name for column in events.columns)


class Content(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What `events.content` holds."""

    event: StoredEvent
    """Without its body where that is apart."""
    delivery: Delivery | None


class Brief(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a list shows of an event and has no column: `events.brief`."""

    target: bytes
    peer: str


encode = msgspec.msgpack.Encoder().encode
decode_content = msgspec.msgpack.Decoder(Content).decode
decode_brief = msgspec.msgpack.Decoder(Brief).decode
decode_delivery = msgspec.msgpack.Decoder(Delivery).decode
