"""The twins of the queue for the contract tests, and what tests do with a queue."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from tests.support.deadlines import DEADLINE
from tests.support.redis_server import shared_server
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import (
    TOPIC_BACKLOG,
    BacklogEvent,
    Bus,
    Ownership,
    Queue,
    Queued,
    QueueLimits,
    StoredEvent,
    Subscription,
    decode_backlog_event,
)
from whook.backplane.redis import open_redis_backplane, open_redis_queue
from whook.backplane.sql import open_sqlite_queue, sqlite_url
from whook.chassis.ids import new_id
from whook.chassis.sealing import Sealer

LONG = 600.0
"""A lease that outlives every test."""
MEGABYTES = 10**8
UNLIMITED = QueueLimits(
    project_count=10**9, project_bytes=10**15, project_age=1e9, total_count=10**9, total_bytes=10**15
)


@dataclass(frozen=True)
class OpenQueue:
    """A queue and the bus on which it publishes."""

    queue: Queue
    bus: Bus


@dataclass(frozen=True)
class QueueTwin:
    """Opens what the folder names: the same queue each time, also twice at once."""

    name: str
    open: Callable[..., AbstractAsyncContextManager[OpenQueue]]


@asynccontextmanager
async def _open_sqlite(folder: Path, sealer: Sealer | None = None) -> AsyncGenerator[OpenQueue, None]:
    bus = MemoryBus()
    async with open_sqlite_queue(sqlite_url(folder / "queue.sqlite3"), bus, sealer=sealer) as queue:
        yield OpenQueue(queue, bus)


@asynccontextmanager
async def _open_redis(folder: Path, sealer: Sealer | None = None) -> AsyncGenerator[OpenQueue, None]:
    url, prefix = shared_server().url, f"{folder}:"
    async with (
        open_redis_backplane(url, prefix=prefix) as backplane,
        open_redis_queue(url, prefix=prefix, sealer=sealer, durability="trust") as queue,
    ):
        yield OpenQueue(queue, backplane.bus)


QUEUES = [QueueTwin("sqlite", _open_sqlite), QueueTwin("redis", _open_redis)]


def event(project: str = "shop", body: bytes | None = b"{}", **changes: Any) -> StoredEvent:
    """Give a webhook."""
    return StoredEvent(
        **{
            "id": new_id("evt"),
            "project_id": f"prj_{project}",
            "project": project,
            "received_at": time.time(),
            "peer": "192.0.2.1",
            "trusted": False,
            "scheme": "https",
            "version": b"1.1",
            "method": b"POST",
            "target": b"/hook?x=%00",
            "headers": [(b"Host", b"shop.example"), (b"X-Odd", b"\xff\x00\xfe"), (b"x-odd", b"")],
            "body_size": len(body or b""),
            "body": body,
            **changes,
        }
    )


def limits(**changes: Any) -> QueueLimits:
    """Give limits that are none but for these."""
    return replace(UNLIMITED, **changes)


async def fill(queue: Queue, count: int, project: str = "shop") -> list[StoredEvent]:
    """Append so many events, one after the other."""
    events = [event(project, b"%d" % number) for number in range(count)]
    for one in events:
        await queue.append(one, UNLIMITED)
    return events


async def own(queue: Queue, project: str = "shop", owner: str = "one", ttl: float = LONG) -> Ownership:
    """Acquire a project for an owner with a lease."""
    await queue.attend(owner, ttl)
    ownership = await queue.acquire(f"prj_{project}", owner)
    assert ownership is not None
    return ownership


async def read(
    queue: Queue, ownership: Ownership, limit: int = 1000, max_bytes: int = MEGABYTES, in_order: bool = True
) -> list[Queued]:
    """Read the next entries."""
    batch = await queue.read(ownership, limit=limit, max_bytes=max_bytes, in_order=in_order)
    return batch.entries


async def drain(queue: Queue, ownership: Ownership, limit: int = 100) -> list[Queued]:
    """Read and settle until nothing is left."""
    found: list[Queued] = []
    while entries := await read(queue, ownership, limit):
        found += entries
        await queue.settle(ownership, [entry.position for entry in entries])
    return found


async def next_change(subscription: Subscription) -> BacklogEvent:
    """Wait for the next event of a backlog, under the deadline."""
    with trio.fail_after(DEADLINE):
        topic, message = await subscription.__anext__()
    assert topic == TOPIC_BACKLOG
    event = decode_backlog_event(message)
    assert event is not None
    return event
