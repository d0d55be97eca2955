"""Auth's store in SQL: users, tokens, owners of project names, signing keys.

The composition root builds it on auth's own database and hands it to the auth module alone. It keeps what it
is told and decides nothing; it must never log a row.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from whook.backplane.ports import StoredKey, StoredToken, User
from whook.backplane.sql.columns import NAMING, UtcDateTime
from whook.backplane.sql.database import Database, insert_if_absent

metadata = sa.MetaData(naming_convention=NAMING)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("bootstrapped_at", UtcDateTime),
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
)

project_owners = sa.Table(
    "project_owners",
    metadata,
    sa.Column("project", sa.String(63), primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("claimed_at", UtcDateTime, nullable=False),
)

signing_keys = sa.Table(
    "signing_keys",
    metadata,
    sa.Column("kid", sa.String(64), primary_key=True),
    sa.Column("private_pem", sa.LargeBinary, nullable=False),
    sa.Column("signs_from", UtcDateTime, nullable=False),
    sa.Column("retires_at", UtcDateTime),
)


class SqlAuthStore:
    """The AuthStore."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ensure_user(self, user: User) -> User:
        """Return the user of that name, stored if needed."""

        def work(connection: Connection) -> User:
            if insert_if_absent(connection, users.insert().values(asdict(user))):
                return user
            return _user(connection.execute(sa.select(users).where(users.c.name == user.name)).one())

        return await self._database.write(work)

    async def add_token(self, token: StoredToken) -> None:
        """Store a token."""
        await self._database.execute(_insert(token))

    async def add_bootstrap_token(self, token: StoredToken) -> bool:
        """Store a token if it is its user's first bootstrap token."""

        def work(connection: Connection) -> bool:
            first = connection.execute(
                users.update()
                .where(users.c.id == token.user_id, users.c.bootstrapped_at.is_(None))
                .values(bootstrapped_at=token.created_at)
            )
            if first.rowcount != 1:
                return False
            connection.execute(_insert(token))
            return True

        return await self._database.write(work)

    async def find_token(self, digest: bytes) -> tuple[StoredToken, User] | None:
        """Return a token and its user."""

        def work(connection: Connection) -> tuple[StoredToken, User] | None:
            found = connection.execute(sa.select(tokens).where(tokens.c.digest == digest)).one_or_none()
            if found is None:
                return None
            owner = connection.execute(sa.select(users).where(users.c.id == found.user_id)).one()
            return _token(found), _user(owner)

        return await self._database.read(work)

    async def tokens(self, user_id: str) -> list[StoredToken]:
        """Return a user's tokens, the oldest first."""
        query = (
            sa.select(tokens).where(tokens.c.user_id == user_id).order_by(tokens.c.created_at, tokens.c.id)
        )
        return await self._database.read(
            lambda connection: [_token(row) for row in connection.execute(query)]
        )

    async def touch_token(self, token_id: str, used_at: datetime) -> None:
        """Note a use of a token."""
        update = tokens.update().where(tokens.c.id == token_id).values(last_used_at=used_at)
        await self._database.execute(update)

    async def revoke_token(self, token_id: str, revoked_at: datetime) -> bool:
        """Revoke a token; return whether this changed anything."""
        update = (
            tokens.update()
            .where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
            .values(revoked_at=revoked_at)
        )
        return await self._database.execute(update) == 1

    async def owner(self, project: str) -> str | None:
        """Return the owner's user id."""
        return await self._database.read(lambda connection: _owner(connection, project))

    async def claim_project(self, project: str, user_id: str, claimed_at: datetime) -> str:
        """Return the owner's user id, who is this user if there was none."""
        insert = project_owners.insert().values(project=project, user_id=user_id, claimed_at=claimed_at)

        def work(connection: Connection) -> str:
            inserted = insert_if_absent(connection, insert)
            owner = user_id if inserted else _owner(connection, project)
            if owner is None:
                raise RuntimeError(f"the name {project} can neither be claimed nor is it owned")
            return owner

        return await self._database.write(work)

    async def signing_keys(self) -> list[StoredKey]:
        """Return all signing keys in the order in which they sign."""
        query = sa.select(signing_keys).order_by(signing_keys.c.signs_from, signing_keys.c.kid)
        return await self._database.read(lambda connection: [_key(row) for row in connection.execute(query)])

    async def add_signing_key(self, key: StoredKey, *, retire_others_at: datetime | None = None) -> None:
        """Store a signing key."""

        def work(connection: Connection) -> None:
            if retire_others_at is not None:
                connection.execute(
                    signing_keys.update()
                    .where(signing_keys.c.retires_at.is_(None))
                    .values(retires_at=retire_others_at)
                )
            connection.execute(signing_keys.insert().values(asdict(key)))

        await self._database.write(work)

    async def delete_retired_keys(self, before: datetime) -> None:
        """Delete keys that nobody needs any more."""
        delete = signing_keys.delete().where(signing_keys.c.retires_at < before)
        await self._database.execute(delete)


def _owner(connection: Connection, project: str) -> str | None:
    query = sa.select(project_owners.c.user_id).where(project_owners.c.project == project)
    found: str | None = connection.scalar(query)
    return found


def _insert(token: StoredToken) -> sa.Insert:
    return tokens.insert().values(asdict(token) | {"scopes": " ".join(sorted(token.scopes))})


def _user(row: Row[Any]) -> User:
    return User(id=row.id, name=row.name, created_at=row.created_at)


def _token(row: Row[Any]) -> StoredToken:
    return StoredToken(
        id=row.id,
        user_id=row.user_id,
        digest=row.digest,
        name=row.name,
        scopes=frozenset(row.scopes.split()),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )


def _key(row: Row[Any]) -> StoredKey:
    return StoredKey(
        kid=row.kid, private_pem=row.private_pem, signs_from=row.signs_from, retires_at=row.retires_at
    )
