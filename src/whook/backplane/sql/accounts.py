"""The half of auth's store that is about people: accounts, members, device logins, sessions, audit.

Inherited by SqlAuthStore. It keeps what it is told and decides nothing; it must never log a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from whook.backplane.ports import (
    Account,
    AuditEntry,
    DeviceGrant,
    Failures,
    Membership,
    Role,
    Session,
)
from whook.backplane.sql.auth_tables import (
    audit_log,
    device_grants,
    failures,
    project_members,
    project_owners,
    sessions,
    tokens,
    users,
    write_audit,
)
from whook.backplane.sql.database import Database, insert_if_absent
from whook.backplane.sql.rights import SqlRights, known_role

_BEGUN = ("pending", "approved")


class SqlAccountStore:
    """The AccountStore."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rights = SqlRights(database)

    async def add_account(self, account: Account, audit: AuditEntry) -> bool:
        """Store an account unless its name is taken."""

        def work(connection: Connection) -> bool:
            added = insert_if_absent(connection, users.insert().values(asdict(account)))
            if added:
                write_audit(connection, audit)
            return added

        return await self._database.write(work)

    async def account(self, *, name: str = "", user_id: str = "") -> Account | None:
        """Return one account."""
        query = sa.select(users).where(users.c.name == name if name else users.c.id == user_id)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _account(row)

    async def accounts(self) -> list[Account]:
        """Return all accounts by name."""
        query = sa.select(users).order_by(users.c.name)
        return await self._database.read(lambda connection: [_account(r) for r in connection.execute(query)])

    async def set_password(
        self, user_id: str, password_hash: str, *, admin: bool | None = None, audit: AuditEntry
    ) -> None:
        """Set a password."""
        values: dict[str, object] = {"password_hash": password_hash}
        if admin is not None:
            values["admin"] = admin

        def work(connection: Connection) -> None:
            connection.execute(users.update().where(users.c.id == user_id).values(values))
            connection.execute(sessions.delete().where(sessions.c.user_id == user_id))
            write_audit(connection, audit)

        await self._database.write(work)

    async def disable_account(self, user_id: str, at: datetime, audit: AuditEntry) -> bool:
        """Disable an account with all that it holds."""
        disable = users.update().where(users.c.id == user_id, users.c.disabled_at.is_(None))
        live = tokens.c.user_id == user_id, tokens.c.revoked_at.is_(None)

        def work(connection: Connection) -> bool:
            if connection.execute(disable.values(disabled_at=at)).rowcount != 1:
                return False
            connection.execute(tokens.update().where(*live).values(revoked_at=at))
            connection.execute(sessions.delete().where(sessions.c.user_id == user_id))
            connection.execute(device_grants.delete().where(device_grants.c.user_id == user_id))
            write_audit(connection, audit)
            return True

        return await self._database.write(work)

    async def role(self, project: str, user_id: str) -> Role | None:
        """Return a role."""
        return await self._rights.role(project, user_id)

    async def memberships(self, *, user_id: str = "", project: str = "") -> list[Membership]:
        """Return memberships by project, then user."""
        owners = sa.select(
            project_owners.c.project, project_owners.c.user_id, sa.literal("owner").label("role")
        )
        others = sa.select(project_members.c.project, project_members.c.user_id, project_members.c.role)
        every = sa.union_all(owners, others).subquery()
        claim = project_owners.alias()
        query = (
            sa.select(every, users.c.name, claim.c.project_id)
            .join(users, users.c.id == every.c.user_id)
            .join(claim, claim.c.project == every.c.project)
        )
        if user_id:
            query = query.where(every.c.user_id == user_id)
        if project:
            query = query.where(every.c.project == project)
        query = query.order_by(every.c.project, users.c.name)
        rows = await self._database.read(lambda connection: list(connection.execute(query)))
        return [
            Membership(
                project=row.project,
                project_id=row.project_id,
                user_id=row.user_id,
                user=row.name,
                role=known_role(row.role),
            )
            for row in rows
        ]

    async def set_member(
        self, project: str, user_id: str, role: Role, at: datetime, audit: AuditEntry
    ) -> bool:
        """Give a role."""

        def work(connection: Connection) -> bool:
            present = _role(connection, project, user_id)
            if present == role:
                return True
            if _first_owner(connection, project) is None or not _take(connection, project, user_id):
                return False
            values = {"project": project, "user_id": user_id, "role": role, "added_at": at}
            connection.execute(project_members.insert().values(values))
            write_audit(connection, audit)
            return True

        return await self._database.write(work)

    async def remove_member(self, project: str, user_id: str, audit: AuditEntry) -> bool:
        """Take a role away."""

        def work(connection: Connection) -> bool:
            if _role(connection, project, user_id) is None or not _take(connection, project, user_id):
                return False
            write_audit(connection, audit)
            return True

        return await self._database.write(work)

    async def delete_project(self, project: str, audit: AuditEntry) -> bool:
        """Free a name."""

        def work(connection: Connection) -> bool:
            connection.execute(project_members.delete().where(project_members.c.project == project))
            owned = project_owners.delete().where(project_owners.c.project == project)
            if connection.execute(owned).rowcount != 1:
                return False
            write_audit(connection, audit)
            return True

        return await self._database.write(work)

    async def add_device_grant(self, grant: DeviceGrant, limit: int) -> bool:
        """Store a device login that begins."""
        values = asdict(grant) | {"scopes": " ".join(sorted(grant.scopes))}
        count = sa.select(sa.func.count()).select_from(device_grants)

        def work(connection: Connection) -> bool:
            connection.execute(device_grants.delete().where(device_grants.c.expires_at < grant.created_at))
            if (connection.scalar(count.where(device_grants.c.state.in_(_BEGUN))) or 0) >= limit:
                return False
            return insert_if_absent(connection, device_grants.insert().values(values))

        return await self._database.write(work)

    async def device_grant(self, user_code: str) -> DeviceGrant | None:
        """Return a device login by its user code."""
        query = sa.select(device_grants).where(device_grants.c.user_code == user_code)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _grant(row)

    async def poll_device(self, digest: bytes, at: datetime) -> DeviceGrant | None:
        """Note a poll and return how things stood before it."""
        this = device_grants.c.digest == digest

        def work(connection: Connection) -> DeviceGrant | None:
            row = connection.execute(sa.select(device_grants).where(this)).one_or_none()
            if row is None:
                return None
            connection.execute(device_grants.update().where(this).values(polled_at=at))
            return _grant(row)

        return await self._database.write(work)

    async def slow_device(self, digest: bytes, interval: int) -> None:
        """Set the interval of a device's polls."""
        this = device_grants.update().where(device_grants.c.digest == digest)
        await self._database.execute(this.values(interval=interval))

    async def decide_device(
        self, user_code: str, user_id: str, *, approved: bool, at: datetime, audit: AuditEntry
    ) -> bool:
        """Approve or deny a device login once."""
        update = (
            device_grants.update()
            .where(
                device_grants.c.user_code == user_code,
                device_grants.c.state == "pending",
                device_grants.c.expires_at > at,
            )
            .values(state="approved" if approved else "denied", user_id=user_id)
        )

        def work(connection: Connection) -> bool:
            if connection.execute(update).rowcount != 1:
                return False
            write_audit(connection, audit)
            return True

        return await self._database.write(work)

    async def add_session(self, session: Session, audit: AuditEntry) -> None:
        """Store a session."""

        def work(connection: Connection) -> None:
            connection.execute(sessions.delete().where(sessions.c.expires_at < session.created_at))
            connection.execute(sessions.insert().values(asdict(session)))
            write_audit(connection, audit)

        await self._database.write(work)

    async def session(self, digest: bytes) -> tuple[Session, Account] | None:
        """Return a session with its account."""

        def work(connection: Connection) -> tuple[Session, Account] | None:
            row = connection.execute(sa.select(sessions).where(sessions.c.digest == digest)).one_or_none()
            if row is None:
                return None
            owner = connection.execute(sa.select(users).where(users.c.id == row.user_id)).one()
            found = Session(
                digest=row.digest, user_id=row.user_id, created_at=row.created_at, expires_at=row.expires_at
            )
            return found, _account(owner)

        return await self._database.read(work)

    async def end_session(self, digest: bytes, audit: AuditEntry) -> None:
        """Forget a session."""

        def work(connection: Connection) -> None:
            if connection.execute(sessions.delete().where(sessions.c.digest == digest)).rowcount:
                write_audit(connection, audit)

        await self._database.write(work)

    async def failures(self, key: str) -> Failures | None:
        """Return how often an attempt failed in a row."""
        query = sa.select(failures.c["count"].label("failed"), failures.c.last_at).where(
            failures.c.key == key
        )
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else Failures(count=row.failed, last_at=row.last_at)

    async def count_failure(self, key: str, at: datetime, forget_before: datetime) -> None:
        """Count one more."""
        this = failures.c.key == key

        def work(connection: Connection) -> None:
            connection.execute(failures.delete().where(failures.c.last_at < forget_before))
            insert = failures.insert().values({"key": key, "count": 1, "last_at": at})
            if not insert_if_absent(connection, insert):
                more = {"count": failures.c["count"] + 1, "last_at": at}
                connection.execute(failures.update().where(this).values(more))

        await self._database.write(work)

    async def forgive_failure(self, key: str, *, everything: bool) -> None:
        """Take one back, or all."""
        this = failures.c.key == key
        if everything:
            await self._database.execute(failures.delete().where(this))
        else:
            less = failures.update().where(this, failures.c["count"] > 0)
            await self._database.execute(less.values({"count": failures.c["count"] - 1}))

    async def append_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Append to the audit trail."""
        await self._database.write(lambda connection: write_audit(connection, *entries))

    async def prune_audit(self, before: datetime, limit: int) -> int:
        """Delete some of the earliest entries."""
        earliest = sa.select(audit_log.c.id, audit_log.c.at).order_by(audit_log.c.id).limit(limit)

        def work(connection: Connection) -> int:
            old = [row.id for row in connection.execute(earliest) if row.at < before]
            if old:
                connection.execute(audit_log.delete().where(audit_log.c.id.in_(old)))
            return len(old)

        return await self._database.write(work)

    async def audit(self, *, before: str = "", limit: int = 100) -> list[AuditEntry]:
        """Return a page of the audit trail."""
        query = sa.select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
        if before:
            query = query.where(audit_log.c.id < before)
        rows = await self._database.read(lambda connection: list(connection.execute(query).mappings()))
        return [AuditEntry(**row) for row in rows]


def _first_owner(connection: Connection, project: str) -> str | None:
    query = sa.select(project_owners.c.user_id).where(project_owners.c.project == project)
    found: str | None = connection.scalar(query)
    return found


def _role(connection: Connection, project: str, user_id: str) -> Role | None:
    if _first_owner(connection, project) == user_id:
        return "owner"
    query = sa.select(project_members.c.role).where(
        project_members.c.project == project, project_members.c.user_id == user_id
    )
    found: str | None = connection.scalar(query)
    return None if found is None else known_role(found)


def _take(connection: Connection, project: str, user_id: str) -> bool:
    """Take a user's role; the first owner's place goes to another owner, or the answer is False."""
    theirs = project_members.c.project == project, project_members.c.user_id == user_id
    if _first_owner(connection, project) != user_id:
        connection.execute(project_members.delete().where(*theirs))
        return True
    heirs = sa.select(project_members.c.user_id).where(
        project_members.c.project == project, project_members.c.role == "owner"
    )
    heir = connection.scalar(heirs.order_by(project_members.c.added_at).limit(1))
    if heir is None:
        return False
    connection.execute(
        project_members.delete().where(
            project_members.c.project == project, project_members.c.user_id == heir
        )
    )
    connection.execute(
        project_owners.update().where(project_owners.c.project == project).values(user_id=heir)
    )
    return True


def _account(row: Row[Any]) -> Account:
    return Account(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        password_hash=row.password_hash,
        admin=row.admin,
        disabled_at=row.disabled_at,
    )


def _grant(row: Row[Any]) -> DeviceGrant:
    return DeviceGrant(
        digest=row.digest,
        user_code=row.user_code,
        scopes=frozenset(row.scopes.split()),
        client=row.client,
        address=row.address,
        created_at=row.created_at,
        expires_at=row.expires_at,
        interval=row.interval,
        polled_at=row.polled_at,
        state=row.state,
        user_id=row.user_id,
    )
