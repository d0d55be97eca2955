"""The twins of the ports but the queue (`queues`), for the contract tests: a new twin is one more entry here.

Each knows how to open itself for one test and what the suite may ask of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.history import EncodingHistory
from tests.support.postgres import Postgres
from tests.support.redis_server import SHARED_BUFFER, shared_backplane
from whook.backplane.memory import SUBSCRIBER_BUFFER, open_memory_backplane
from whook.backplane.ports import AuthStore, Backplane, Bus, Projects
from whook.backplane.sql import (
    AUTH,
    CONDUCTOR,
    SqlAuthStore,
    SqlBlobs,
    SqlHistory,
    SqlProjects,
    migrate_database,
    open_database,
    sqlite_url,
)
from whook.backplane.sql.database import Database
from whook.backplane.sql.history_packs import Packing
from whook.chassis.sealing import Sealer


@dataclass(frozen=True)
class BackplaneTwin:
    """A directory with its bus."""

    name: str
    open: Callable[[], AbstractAsyncContextManager[Backplane]]
    follows_trio_clock: bool
    """Whether its leases end by Trio's clock, which a test can move."""
    buffer: int
    """Messages that it buffers for a subscriber."""


@dataclass(frozen=True)
class StoreTwin:
    """A kind of database for both stores. They are opened in a folder of the test's own."""

    name: str
    open_projects: Callable[[Path, Bus], AbstractAsyncContextManager[Projects]]
    open_auth_store: Callable[[Path], AbstractAsyncContextManager[AuthStore]]
    open_history: Callable[
        [Path, Sealer, Packing | None], AbstractAsyncContextManager[tuple[SqlHistory, SqlBlobs]]
    ]
    """With a packing news come as bytes, and share rows."""


@asynccontextmanager
async def sqlite_projects(folder: Path, bus: Bus) -> AsyncGenerator[Projects, None]:
    """Open the conductor's store in SQLite."""
    async with open_database(sqlite_url(folder / "conductor.db"), CONDUCTOR) as database:
        yield SqlProjects(database, bus)


@asynccontextmanager
async def sqlite_auth_store(folder: Path) -> AsyncGenerator[AuthStore, None]:
    """Open auth's store in SQLite."""
    async with open_database(sqlite_url(folder / "auth.db"), AUTH) as database:
        yield SqlAuthStore(database)


@asynccontextmanager
async def sqlite_history(
    folder: Path, sealer: Sealer, packing: Packing | None = None
) -> AsyncGenerator[tuple[SqlHistory, SqlBlobs], None]:
    """Open the history and the bodies apart, in the conductor's store in SQLite."""
    async with open_database(sqlite_url(folder / "conductor.db"), CONDUCTOR) as database:
        yield _history(database, sealer, packing), SqlBlobs(database, sealer)


def _history(database: Database, sealer: Sealer, packing: Packing | None) -> SqlHistory:
    return EncodingHistory(database, sealer, packing) if packing else SqlHistory(database, sealer)


BACKPLANES = [
    BackplaneTwin("memory", open_memory_backplane, follows_trio_clock=True, buffer=SUBSCRIBER_BUFFER),
    BackplaneTwin("redis", shared_backplane, follows_trio_clock=False, buffer=SHARED_BUFFER),
]
SQLITE = StoreTwin("sqlite", sqlite_projects, sqlite_auth_store, sqlite_history)
STORES = ["sqlite", "postgresql"]


def postgresql(server: Postgres) -> StoreTwin:
    """Give the stores in a running PostgreSQL."""

    @asynccontextmanager
    async def open_projects(folder: Path, bus: Bus) -> AsyncGenerator[Projects, None]:
        url = server.database_of(folder / "conductor")
        await migrate_database(url, CONDUCTOR)
        async with open_database(url, CONDUCTOR) as database:
            yield SqlProjects(database, bus)

    @asynccontextmanager
    async def open_auth_store(folder: Path) -> AsyncGenerator[AuthStore, None]:
        url = server.database_of(folder / "auth")
        await migrate_database(url, AUTH)
        async with open_database(url, AUTH) as database:
            yield SqlAuthStore(database)

    @asynccontextmanager
    async def open_history(
        folder: Path, sealer: Sealer, packing: Packing | None = None
    ) -> AsyncGenerator[tuple[SqlHistory, SqlBlobs], None]:
        url = server.database_of(folder / "conductor")
        await migrate_database(url, CONDUCTOR)
        async with open_database(url, CONDUCTOR) as database:
            yield _history(database, sealer, packing), SqlBlobs(database, sealer)

    return StoreTwin("postgresql", open_projects, open_auth_store, open_history)
