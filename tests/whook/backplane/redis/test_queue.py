"""The queue on Redis where it differs from the other twin: what Redis must be like, full, away, elsewhere."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.queues import LONG, UNLIMITED, drain, event, fill, next_change, own, read
from tests.support.redis_server import RedisServer
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import TOPIC_BACKLOG, BacklogGone, BacklogSet, Ownership, Queue, Unavailable
from whook.backplane.redis import PREFIX, open_redis_queue

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ((), "set appendonly yes, appendfsync always"),
        (("--appendonly", "yes"), "set appendfsync always"),
        ((*DURABLE, "--no-appendfsync-on-rewrite", "yes"), "set no-appendfsync-on-rewrite no"),
        (
            (*DURABLE, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"),
            "set maxmemory-policy noeviction",
        ),
        (("--rename-command", "CONFIG", ""), "QUEUE_DURABILITY to trust"),
    ],
)
async def test_nothing_is_taken_by_a_redis_that_could_lose_it(
    options: tuple[str, ...], fault: str, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path, *options)
    server.start()
    try:
        async with open_redis_queue(server.url) as queue:
            for _ in range(2):
                with pytest.raises(Unavailable, match=fault):
                    await queue.append(event(), UNLIMITED)
            # All else goes on: what waits there is delivered.
            assert await queue.backlogs() == {}
            assert await read(queue, await own(queue)) == []
        async with open_redis_queue(server.url, durability="trust") as queue:
            await queue.append(event(), UNLIMITED)
    finally:
        server.kill()


@pytest.mark.parametrize(
    "options", [DURABLE, (*DURABLE, "--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru")]
)
async def test_a_durable_redis_is_taken(options: tuple[str, ...], tmp_path: Path) -> None:
    server = RedisServer(tmp_path, *options)
    server.start()
    try:
        async with open_redis_queue(server.url) as queue:
            await fill(queue, 3)
    finally:
        server.kill()


async def test_redis_is_looked_at_until_it_passes_and_again_after_it_was_away(
    server: RedisServer, tmp_path: Path
) -> None:
    async with open_redis_queue(server.url) as queue:
        with pytest.raises(Unavailable, match="appendonly"):
            await queue.append(event(), UNLIMITED)
        with server.client() as client:
            client.config_set("appendonly", "yes")
            client.config_set("appendfsync", "always")
        await queue.append(event(), UNLIMITED)
        server.kill()
        server.start()  # with its options of before
        # The child that writes its file may hold the old connection open for a while.
        with pytest.raises(Unavailable):
            await queue.append(event(), UNLIMITED)
        with pytest.raises(Unavailable, match="appendonly"):
            await queue.append(event(), UNLIMITED)


async def test_a_full_redis_takes_nothing_and_delivers_what_waits(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, *DURABLE)
    server.start()
    try:
        async with open_redis_queue(server.url) as queue:
            events = await fill(queue, 20)
            first = await own(queue, owner="first")
            [one] = await read(queue, first, limit=1)
            await queue.leave("first")
            with server.client() as client:
                client.config_set("maxmemory", "1")
            before = await queue.backlogs()
            with pytest.raises(Unavailable, match="memory"):
                await queue.append(event(), UNLIMITED)
            assert await queue.backlogs() == before
            ownership = await own(queue)
            [again] = await read(queue, ownership, limit=1)
            assert (again.position, again.attempt) == (one.position, 2)
            await queue.defer(ownership, again.position, until=time.time() + LONG, failed=True)
            await queue.defer(ownership, again.position, until=0, failed=True)
            assert await queue.remember("a", 60, settled=True) == "new"
            await queue.forget("a")
            assert await queue.attend("one", LONG) is True
            entries = (await queue.read(ownership, limit=99, max_bytes=10**6, in_order=False)).entries
            assert [entry.event for entry in entries] == events[1:]
            await queue.settle(ownership, [entry.position for entry in (again, *entries)])
            assert await queue.backlogs() == {}
            await queue.release(ownership)
            with server.client() as client:
                client.config_set("maxmemory", "0")
            await queue.append(event(), UNLIMITED)
    finally:
        server.kill()


async def test_everything_raises_unavailable_while_redis_is_away(tmp_path: Path) -> None:
    async with open_redis_queue(f"unix://{tmp_path}/nobody.sock") as queue:
        ownership = Ownership(project_id="prj_shop", owner="one", fence=1)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: queue.append(event(), UNLIMITED),
            lambda: queue.backlog("prj_shop"),
            lambda: queue.backlogs(),
            lambda: queue.version(),
            lambda: queue.attend("one", LONG),
            lambda: queue.leave("one"),
            lambda: queue.acquire("prj_shop", "one"),
            lambda: queue.release(ownership),
            lambda: read(queue, ownership),
            lambda: queue.settle(ownership, ["1"]),
            lambda: queue.defer(ownership, "1", until=0, failed=True),
            lambda: queue.remember("a", 1, settled=True),
            lambda: queue.forget("a"),
        ]
        for call in calls:
            with pytest.raises(Unavailable, match="Redis"):
                await call()


async def test_a_hanging_redis_is_given_up_and_does_not_catch_up(server: RedisServer) -> None:
    async with open_redis_queue(server.url, durability="trust") as queue:
        await fill(queue, 1)
        server.hold()
        try:
            with trio.fail_after(DEADLINE), pytest.raises(Unavailable):
                await queue.append(event(), UNLIMITED)
            with trio.fail_after(DEADLINE), pytest.raises(Unavailable):
                await queue.attend("one", LONG)
        finally:
            server.go_on()
        assert await queue.attend("one", LONG) is False
        assert (await queue.backlog("prj_shop")).count == 1


async def test_the_bus_may_be_elsewhere(server: RedisServer) -> None:
    bus = MemoryBus()
    async with AsyncExitStack() as stack:
        changes = await stack.enter_async_context(bus.subscribe(TOPIC_BACKLOG))
        queue: Queue = await stack.enter_async_context(
            open_redis_queue(server.url, durability="trust", bus=bus)
        )
        await fill(queue, 2)
        come = await next_change(changes)
        await drain(queue, await own(queue))
        gone = await next_change(changes)
    assert come == BacklogSet(project_id="prj_shop", project="shop", version=come.version)
    assert gone == BacklogGone(project_id="prj_shop", version=gone.version)
    assert gone.version > come.version


async def test_nothing_is_left_behind_of_a_backlog_that_is_gone(server: RedisServer) -> None:
    async with open_redis_queue(server.url, durability="trust") as queue:
        await fill(queue, 5)
        ownership = await own(queue)
        entries = await read(queue, ownership)
        for entry in entries:
            await queue.defer(ownership, entry.position, until=time.time() + LONG, failed=True)
        await queue.settle(ownership, [entry.position for entry in entries])
        await queue.release(ownership)
        await queue.leave("one")
        with server.client() as client:
            left = {key.decode().removeprefix(f"{PREFIX}queue:") for key in client.scan_iter()}
            assert left == {"number", "version", "totals"}
            assert client.hgetall(f"{PREFIX}queue:totals") == {b"count": b"0", b"bytes": b"0"}
