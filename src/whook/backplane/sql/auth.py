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

from whook.backplane.ports import AuditEntry, StoredKey, StoredToken, User
from whook.backplane.sql.accounts import SqlAccountStore
from whook.backplane.sql.auth_tables import (
    device_grants,
    metadata,
    project_owners,
    signing_keys,
    tokens,
    users,
    write_audit,
)
from whook.backplane.sql.database import insert_if_absent

__all__ = ["SqlAuthStore", "metadata"]


class SqlAuthStore(SqlAccountStore):
    """The AuthStore."""

    async def ensure_user(self, user: User) -> User:
        """Return the user of that name, stored if needed."""

        def work(connection: Connection) -> User:
            if insert_if_absent(connection, users.insert().values(asdict(user) | {"admin": False})):
                return user
            return _user(connection.execute(sa.select(users).where(users.c.name == user.name)).one())

        return await self._database.write(work)

    async def add_token(self, token: StoredToken, audit: AuditEntry | None = None) -> None:
        """Store a token."""

        def work(connection: Connection) -> None:
            connection.execute(_insert(token))
            write_audit(connection, audit)

        await self._database.write(work)

    async def redeem_device(self, digest: bytes, token: StoredToken, audit: AuditEntry) -> bool:
        """Store the token of an approved device login, which can be done once."""

        def work(connection: Connection) -> bool:
            used = connection.execute(
                device_grants.update()
                .where(
                    device_grants.c.digest == digest,
                    device_grants.c.state == "approved",
                    device_grants.c.user_id == token.user_id,
                )
                .values(state="consumed")
            )
            active = sa.select(users.c.id).where(users.c.id == token.user_id, users.c.disabled_at.is_(None))
            if used.rowcount != 1 or connection.scalar(active) is None:
                return False
            connection.execute(_insert(token))
            write_audit(connection, audit)
            return True

        return await self._database.write(work)

    async def add_bootstrap_token(self, token: StoredToken) -> bool:
        """Store a token if it is its user's first bootstrap token."""

        def work(connection: Connection) -> bool:
            first = connection.execute(
                users.update()
                .where(users.c.id == token.user_id, users.c.bootstrapped_at.is_(None))
                .values(bootstrapped_at=token.created_at, admin=True)
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

    async def revoke_token(
        self, token_id: str, revoked_at: datetime, audit: AuditEntry | None = None
    ) -> bool:
        """Revoke a token; return whether this changed anything."""
        update = (
            tokens.update()
            .where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
            .values(revoked_at=revoked_at)
        )

        def work(connection: Connection) -> bool:
            revoked = connection.execute(update).rowcount == 1
            if revoked:
                write_audit(connection, audit)
            return revoked

        return await self._database.write(work)

    async def owner(self, project: str) -> str | None:
        """Return the owner's user id."""
        return await self._rights.owner(project)

    async def project_id(self, project: str) -> str | None:
        """Return the id that was stored with the claim."""
        query = sa.select(project_owners.c.project_id).where(project_owners.c.project == project)
        return await self._database.read(lambda connection: connection.scalar(query))

    async def claim_project(
        self,
        project: str,
        user_id: str,
        claimed_at: datetime,
        audit: AuditEntry | None = None,
        *,
        project_id: str,
    ) -> str:
        """Return the owner's user id, who is this user if there was none."""
        insert = project_owners.insert().values(
            project=project, user_id=user_id, claimed_at=claimed_at, project_id=project_id
        )

        def work(connection: Connection) -> str:
            inserted = insert_if_absent(connection, insert)
            if inserted:
                write_audit(connection, audit)
            owner = user_id if inserted else _owner(connection, project)
            if owner is None:
                raise RuntimeError(f"the name {project} can neither be claimed nor is it owned")
            return owner

        return await self._database.write(work)

    async def signing_keys(self) -> list[StoredKey]:
        """Return all signing keys in the order in which they sign."""
        query = sa.select(signing_keys).order_by(signing_keys.c.signs_from, signing_keys.c.kid)
        return await self._database.read(lambda connection: [_key(row) for row in connection.execute(query)])

    async def add_signing_key(
        self,
        key: StoredKey,
        *,
        retire_others_at: datetime | None = None,
        after: str = "",
        audit: AuditEntry | None = None,
    ) -> bool:
        """Store a signing key, unless the one that it is to follow has been followed."""
        endless = signing_keys.update().where(signing_keys.c.retires_at.is_(None))

        def work(connection: Connection) -> bool:
            if after:
                # An update, which waits for another transaction's, so that only one of them finds it endless.
                ending = endless.where(signing_keys.c.kid == after).values(retires_at=retire_others_at)
                if connection.execute(ending).rowcount != 1:
                    return False
            if retire_others_at is not None:
                connection.execute(endless.values(retires_at=retire_others_at))
            connection.execute(signing_keys.insert().values(asdict(key)))
            write_audit(connection, audit)
            return True

        return await self._database.write(work)

    async def delete_retired_keys(self, before: datetime) -> None:
        """Delete keys that nobody needs any more."""
        delete = signing_keys.delete().where(signing_keys.c.retires_at < before)
        await self._database.execute(delete)


def _owner(connection: Connection, project: str) -> str | None:
    query = sa.select(project_owners.c.user_id).where(project_owners.c.project == project)
    found: str | None = connection.scalar(query)
    return found


def _insert(token: StoredToken) -> sa.Insert:
    words = {"scopes": " ".join(sorted(token.scopes)), "projects": " ".join(sorted(token.projects))}
    return tokens.insert().values(asdict(token) | words)


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
        projects=frozenset(row.projects.split()),
    )


def _key(row: Row[Any]) -> StoredKey:
    return StoredKey(
        kid=row.kid, private_pem=row.private_pem, signs_from=row.signs_from, retires_at=row.retires_at
    )
