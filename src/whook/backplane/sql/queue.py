"""The queue in SQLite, for a server that is one process: its own file, durable at each commit.

Opened by the composition root, which hands it to the conductor. All changes go through one writer, which puts
what is asked for at the same time into one transaction, hence one fsync (``synchronous = FULL`` in WAL mode:
sqlite.org/pragma.html#pragma_synchronous). It must never let an append return before that.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, cast

import trio
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError

from whook.backplane.envelope import pack, unpack
from whook.backplane.ports import (
    TOPIC_BACKLOG,
    Backlog,
    BacklogEvent,
    Batch,
    Bus,
    NotOwner,
    Origin,
    Ownership,
    QueueFull,
    QueueLimits,
    StoredEvent,
    Unavailable,
    encode_event,
)
from whook.backplane.sql import queue_changes as changes
from whook.backplane.sql.database import Database, open_database
from whook.backplane.sql.file_use import FileUse, use_file
from whook.backplane.sql.group_commit import GroupCommit
from whook.backplane.sql.queue_changes import Entry, Transaction
from whook.backplane.sql.schema import QUEUE
from whook.chassis.logs import get_logger
from whook.chassis.sealing import Sealer

T = TypeVar("T")

_log = get_logger("whook.backplane.sql")


class SqliteQueue:
    """The Queue of one process. Leases and delays follow the clock of the machine."""

    def __init__(
        self, database: Database, bus: Bus, sealer: Sealer, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._bus = bus
        self._sealer = sealer
        self._clock = clock
        refusals = (QueueFull, NotOwner, Unavailable)
        self._writer = GroupCommit[Transaction](database, self._begin, self._committed, refusals)
        self._news: dict[str, BacklogEvent] = {}
        """By project, what is to be published: only the latest of each counts."""
        self._told = trio.Event()

    async def run(self) -> None:
        """Write and publish, for ever; nothing is written without it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish, name="publish backlogs")
            nursery.start_soon(self._writer.run, name="write the queue")

    async def append(
        self, event: StoredEvent, limits: QueueLimits, *, origin: Origin = "buffered", attempts: int = 0
    ) -> None:
        """Store an event at the end of its project's backlog. Raises QueueFull."""
        envelope = pack(event, self._sealer)
        entry = Entry(
            project_id=event.project_id,
            project=event.project,
            event_id=event.id,
            origin=origin,
            attempts=attempts,
            since=event.received_at if origin == "buffered" else self._clock(),
            size=envelope.size,
            body_size=event.body_size,
            payload=envelope.payload,
        )
        await self._writer.change(partial(changes.append, entry=entry, limits=limits))

    async def backlog(self, project_id: str) -> Backlog:
        """Return what of the project waits."""
        return await self._look(lambda db: changes.backlog(db, project_id))

    async def backlogs(self) -> dict[str, Backlog]:
        """Return every project of which something waits."""
        return await self._look(changes.backlogs)

    async def version(self) -> int:
        """Return the number of the last BacklogSet or BacklogGone."""
        return await self._look(changes.version)

    async def attend(self, owner: str, ttl: float) -> bool:
        """Take or renew a lease; return True if it was renewed. Raises ValueError for an impossible ttl."""
        if not 0 < ttl < math.inf:
            raise ValueError(f"a lease must last longer than 0 s and end some time, not {ttl} s")
        return await self._writer.change(partial(changes.attend, owner=owner, ttl=ttl))

    async def end_leases(self) -> None:
        """End every lease and ownership. Only for whoever knows that all owners are dead."""
        await self._writer.change(changes.end_leases)

    async def leave(self, owner: str) -> None:
        """End a lease and the ownerships that hang on it."""
        await self._writer.change(partial(changes.leave, owner=owner))

    async def acquire(self, project_id: str, owner: str) -> Ownership | None:
        """Begin an ownership, unless another owner's stands. Raises NotOwner."""
        return await self._writer.change(partial(changes.acquire, project_id=project_id, owner=owner))

    async def release(self, ownership: Ownership) -> None:
        """End an ownership if it stands."""
        await self._writer.change(partial(changes.release, ownership=ownership))

    async def read(self, ownership: Ownership, *, limit: int, max_bytes: int, in_order: bool) -> Batch:
        """Give out the next events. Raises NotOwner."""
        work = partial(
            changes.read,
            ownership=ownership,
            limit=limit,
            max_bytes=max_bytes,
            in_order=in_order,
            unpack=self._unpack,
        )
        return await self._writer.change(work)

    async def settle(self, ownership: Ownership, positions: list[str]) -> Backlog:
        """Remove events; return what is left. Raises NotOwner."""
        return await self._writer.change(partial(changes.settle, ownership=ownership, positions=positions))

    async def defer(self, ownership: Ownership, position: str, *, until: float, failed: bool) -> None:
        """Give an event back until later. Raises NotOwner."""
        work = partial(changes.defer, ownership=ownership, position=position, until=until, failed=failed)
        await self._writer.change(work)

    async def remember(self, key: str, seconds: float, *, settled: bool) -> Literal["new", "running", "done"]:
        """Note a delivery id; return what was known of it."""
        work = partial(changes.remember, key=key, seconds=seconds, settled=settled)
        return await self._writer.change(work)

    async def forget(self, key: str) -> None:
        """Take back a claim that is not settled."""
        await self._writer.change(partial(changes.forget, key=key))

    async def _look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._database.read(lambda connection: work(_driver(connection)))

    def _unpack(self, payload: bytes, event_id: str) -> StoredEvent:
        return unpack(payload, event_id, self._sealer)

    def _begin(self, connection: Connection) -> Transaction:
        return Transaction(_driver(connection), self._clock())

    def _committed(self, transaction: Transaction) -> None:
        for news in transaction.news:
            self._news.pop(news.project_id, None)
            self._news[news.project_id] = news
        if transaction.news:
            self._told.set()

    async def _publish(self) -> None:
        """Publish what has changed, for ever; beside the writer, because a bus may keep one waiting."""
        while True:
            await self._told.wait()
            self._told = trio.Event()
            while self._news:
                project_id = next(iter(self._news))
                try:
                    await self._bus.publish(TOPIC_BACKLOG, encode_event(self._news.pop(project_id)))
                except Unavailable as error:
                    # Subscribers get a gap, and read anew.
                    _log.debug("backlog not published", error=str(error))


@asynccontextmanager
async def open_sqlite_queue(
    url: str,
    bus: Bus,
    *,
    sealer: Sealer | None = None,
    clock: Callable[[], float] = time.time,
    inherit: bool = False,
) -> AsyncGenerator[SqliteQueue, None]:
    """Open the queue in the file that ``url`` (``sqlite:///PATH``) names; it is made if needed.

    It publishes on ``bus``. Without a ``sealer`` it stores plainly. With ``inherit``, and if no other process
    has the file open, the leases of earlier processes end at once: whoever had them is dead. Raises what
    `open_database` raises, and ValueError for a URL of another kind.
    """
    check_queue_url(url)
    async with open_database(url, QUEUE) as database, _use(url) as use:
        queue = SqliteQueue(database, bus, sealer or Sealer(), clock=clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.run, name="queue")
            if inherit and use.alone:
                await queue.end_leases()
            use.share()
            yield queue
            nursery.cancel_scope.cancel(reason="the queue is closed")


@asynccontextmanager
async def _use(url: str) -> AsyncGenerator[FileUse]:
    with ExitStack() as stack:
        path = Path(make_url(url).database or "")
        try:
            # Waits at most for the one transaction of somebody who is alone.
            use = await trio.to_thread.run_sync(stack.enter_context, use_file(path))
        except OSError as error:
            raise Unavailable(f"cannot lock the queue: {error.strerror}") from error
        yield use


def check_queue_url(url: str) -> None:
    """Return if ``url`` names a file of SQLite. Raises ValueError; its text holds no password."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise ValueError("cannot keep a queue there: give sqlite:///PATH")


def _driver(connection: Connection) -> sqlite3.Connection:
    """Return the driver's own connection, inside the transaction that SQLAlchemy has begun on it."""
    return cast("sqlite3.Connection", connection.connection.driver_connection)
