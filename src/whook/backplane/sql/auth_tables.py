"""The tables of auth's database, for the modules of its store and for the check that migrations make them.

Owns their definition and the writing of audit rows. It must never hold a query that decides something.
"""

from __future__ import annotations

from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from whook.backplane.ports import AuditEntry
from whook.backplane.sql.columns import NAMING, UtcDateTime

metadata = sa.MetaData(naming_convention=NAMING)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("bootstrapped_at", UtcDateTime),
    sa.Column("password_hash", sa.String(255)),
    sa.Column("admin", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("disabled_at", UtcDateTime),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("scopes", sa.String(255), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
    sa.Column("last_used_at", UtcDateTime),
    sa.Column("projects", sa.Text, nullable=False, server_default=""),
)

project_owners = sa.Table(
    "project_owners",
    metadata,
    sa.Column("project", sa.String(63), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("claimed_at", UtcDateTime, nullable=False),
    sa.Column("project_id", sa.String(64), nullable=False, server_default=""),
)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("kid", sa.String(64), primary_key=True),
    sa.Column("private_pem", sa.LargeBinary, nullable=False),
    sa.Column("signs_from", UtcDateTime, nullable=False),
    sa.Column("retires_at", UtcDateTime),
)

project_members = sa.Table(
    "project_members",
    metadata,
    sa.Column(
        "project",
        sa.String(63),
        sa.ForeignKey("project_owners.project", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column(
        "user_id", sa.String(64), sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    ),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("added_at", UtcDateTime, nullable=False),
)
"""Members beside the first owner, who stands in project_owners."""

device_grants = sa.Table(
    "device_grants",
    metadata,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("user_code", sa.String(16), nullable=False, unique=True),
    sa.Column("scopes", sa.String(255), nullable=False),
    sa.Column("client", sa.String(255), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
    sa.Column("interval", sa.Integer, nullable=False),
    sa.Column("polled_at", UtcDateTime),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE")),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("digest", sa.LargeBinary(32), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
)

failures = sa.Table(
    "failures",
    metadata,
    sa.Column("key", sa.String(320), primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("last_at", UtcDateTime, nullable=False, index=True),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("actor", sa.String(255), nullable=False),
    sa.Column("target", sa.String(255), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("detail", sa.String(255), nullable=False),
)
"""Ordered by id: ids grow with time."""


def write_audit(connection: Connection, *entries: AuditEntry | None) -> None:
    """Append entries in the caller's transaction."""
    rows = [asdict(entry) for entry in entries if entry is not None]
    if rows:
        connection.execute(audit_log.insert(), rows)
