"""The tables of the queue in SQLite. Read by the tests that compare them with the migrations.

The statements on them are in ``queue_changes``, written out: there are few, each runs once or more for every
webhook, and SQLAlchemy would make them four times as dear.
"""

from __future__ import annotations

import sqlalchemy as sa

from whook.backplane.sql.columns import NAMING

metadata = sa.MetaData(naming_convention=NAMING)

entries = sa.Table(
    "entries",
    metadata,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("project_id", sa.Text, nullable=False, index=True),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("given", sa.Integer, nullable=False, comment="fence it was given out under; 0: to nobody"),
    sa.Column(
        "due_at", sa.Float, nullable=False, comment="epoch seconds it was deferred to; 0: not deferred"
    ),
    sa.Column("since", sa.Float, nullable=False, comment="epoch seconds since when it waits"),
    sa.Column("size", sa.Integer, nullable=False, comment="what it counts for in the limits"),
    sa.Column("body_size", sa.Integer, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
sa.Index("ix_entries_deferred", entries.c.project_id, entries.c.due_at, sqlite_where=sa.text("due_at > 0"))

backlogs = sa.Table(
    "backlogs",
    metadata,
    sa.Column("project_id", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False, comment="at least 1"),
    sa.Column("bytes", sa.Integer, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("renewed_at", sa.Float, nullable=False),
    sa.Column("ends_at", sa.Float, nullable=False),
)

ownerships = sa.Table(
    "ownerships",
    metadata,
    sa.Column("project_id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("settled", sa.Boolean, nullable=False),
    sa.Column("ends_at", sa.Float, nullable=False, index=True),
)

totals = sa.Table(
    "totals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, comment="1: there is one row"),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False, comment="changes of whether a project has a backlog"),
    sa.Column("fence", sa.Integer, nullable=False, comment="the last one given out"),
)
