"""The promise: what was acknowledged is there after any crash, in order; what was settled is gone for good.

In SQLite the process that works is killed, on Redis the Redis, at random moments; the seed is printed.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.queues import LONG, QUEUES, UNLIMITED, drain, event, own, read
from tests.support.redis_server import RedisServer
from whook.backplane.ports import NotOwner, Ownership, Queue, Unavailable
from whook.backplane.redis import open_redis_queue

ROUNDS = 6


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("WHOOK_TEST_SEED") or random.randrange(10**9))
    print(f"WHOOK_TEST_SEED={seed}")
    return random.Random(seed)


def run_and_kill(mode: str, folder: Path, name: str, lines: int) -> list[str]:
    """Run the program until it has said so many lines, kill it, and give all that it said."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.queue_program", mode, str(folder), name],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line.decode().strip())
            if len(said) == lines:
                process.kill()
        assert process.wait(DEADLINE) == -9
        return said


def check_order(bodies: Iterable[str]) -> None:
    """Each task appended one after the other: so its numbers rise."""
    last: defaultdict[str, int] = defaultdict(lambda: -1)
    for body in bodies:
        task, _, number = body.rpartition(".")
        assert int(number) > last[task], body
        last[task] = int(number)


async def bodies_left(queue: Queue) -> list[str]:
    await queue.leave("dead")
    return [(entry.event.body or b"").decode() for entry in await drain(queue, await own(queue))]


async def test_a_killed_server_loses_nothing_that_it_acknowledged(
    tmp_path: Path, chance: random.Random
) -> None:
    acknowledged: list[str] = []
    for round_ in range(ROUNDS):
        lines = chance.randrange(1, 400)
        said = await trio.to_thread.run_sync(run_and_kill, "append", tmp_path, str(round_), lines)
        acknowledged += said
    async with QUEUES[0].open(tmp_path) as opened:
        held = await opened.queue.backlog("prj_shop")
        left = await bodies_left(opened.queue)
    assert held.count == len(left) == len(set(left))
    assert set(acknowledged) <= set(left)
    # What was under way may be there as well: one for each task.
    assert len(left) - len(acknowledged) <= ROUNDS * 8
    check_order(left)


async def test_a_killed_server_delivers_again_what_it_had_not_settled(
    tmp_path: Path, chance: random.Random
) -> None:
    appended = [f"0.0.{number}" for number in range(400)]
    async with QUEUES[0].open(tmp_path) as opened:
        for body in appended:
            await opened.queue.append(event(body=body.encode()), UNLIMITED)
    settled: list[str] = []
    attempts: dict[str, int] = {}
    for _ in range(ROUNDS):
        lines = chance.randrange(1, 60)
        said = await trio.to_thread.run_sync(run_and_kill, "deliver", tmp_path, "dead", lines)
        for line in said:
            word, body, *attempt = line.split()
            assert body not in settled
            if word == "settled":
                settled.append(body)
            else:
                assert int(attempt[0]) > attempts.get(body, 0)
                attempts[body] = int(attempt[0])
        # Each takes up where the one before it was killed; of one settlement nobody heard.
        done = re.match(r"read 0\.0\.(\d+) ", said[0])
        assert done is not None
        assert int(done[1]) - len(settled_before(settled, said)) in range(ROUNDS + 1)
    async with QUEUES[0].open(tmp_path) as opened:
        left = await bodies_left(opened.queue)
    assert left == appended[-len(left) :]
    assert not set(left) & set(settled)
    assert len(appended) - len(left) - len(settled) <= ROUNDS


def settled_before(settled: list[str], said: list[str]) -> list[str]:
    """Give what was settled before these lines."""
    now = sum(line.startswith("settled") for line in said)
    return settled[: len(settled) - now]


@pytest.fixture
def server(tmp_path: Path) -> Generator[RedisServer, None, None]:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.kill()


async def test_a_killed_redis_loses_nothing_that_was_acknowledged(
    server: RedisServer, chance: random.Random
) -> None:
    acknowledged: list[str] = []
    settled: list[str] = []
    delivered: list[str] = []
    limit = 0
    enough = trio.Event()

    async def append(queue: Queue, task: int) -> None:
        number = 0
        while True:
            body = f"0.{task}.{number}"
            number += 1
            await trio.lowlevel.checkpoint()
            try:
                await queue.append(event(body=body.encode()), UNLIMITED)
            except Unavailable:
                continue  # in doubt: nobody was told anything
            acknowledged.append(body)
            if len(acknowledged) >= limit:
                enough.set()

    async def deliver(queue: Queue) -> None:
        ownership: Ownership | None = None
        while True:
            await trio.lowlevel.checkpoint()
            try:
                if ownership is None:
                    await queue.attend("dead", LONG)
                    ownership = await queue.acquire("prj_shop", "dead")
                    assert ownership is not None
                for entry in await read(queue, ownership, limit=3):
                    body = (entry.event.body or b"").decode()
                    delivered.append(body)
                    assert body not in settled
                    await queue.settle(ownership, [entry.position])
                    settled.append(body)
            except (Unavailable, NotOwner):
                ownership = None  # what was given out in an answer that was lost comes again

    with trio.fail_after(2 * DEADLINE):
        async with open_redis_queue(server.url) as queue:
            async with trio.open_nursery() as nursery:
                for task in range(6):
                    nursery.start_soon(append, queue, task)
                nursery.start_soon(deliver, queue)
                for _ in range(ROUNDS):
                    limit, enough = len(acknowledged) + chance.randrange(1, 150), trio.Event()
                    if chance.random() < 0.4:
                        with server.client() as client:
                            client.bgrewriteaof()
                    await enough.wait()
                    server.kill()
                    await trio.to_thread.run_sync(server.start)
                nursery.cancel_scope.cancel()
            held = await queue.backlog("prj_shop")
            left = await bodies_left(queue)
            assert await queue.backlogs() == {}
    assert held.count <= len(left)  # an append that was cancelled on its way may arrive after the count
    assert set(acknowledged) <= set(settled) | set(delivered) | set(left)
    assert not set(left) & set(settled)
    check_order(left)
    check_order(dict.fromkeys(delivered))
    # All that was taken from the queue was delivered: an answer about a settlement may have been lost.
    assert set(acknowledged) - set(left) <= set(delivered)


async def test_a_redis_that_lost_everything_is_an_empty_queue(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        async with open_redis_queue(server.url, durability="trust") as queue:
            for _ in range(2):
                await queue.append(event(), UNLIMITED)
            ownership = await own(queue)
            [one] = await read(queue, ownership, limit=1)
            version = await queue.version()
            server.kill()
            with pytest.raises(Unavailable):
                await queue.backlogs()
            server.start()
            assert await queue.backlogs() == {}
            assert await queue.version() > version
            for call in (
                lambda: read(queue, ownership),
                lambda: queue.settle(ownership, [one.position]),
                lambda: queue.defer(ownership, one.position, until=0, failed=True),
                lambda: queue.acquire("prj_shop", "one"),
            ):
                with pytest.raises(NotOwner):
                    await call()
            await queue.release(ownership)
            assert await queue.attend("one", LONG) is False
            await queue.append(event(), UNLIMITED)
            again = await own(queue)
            assert again.fence > ownership.fence
            [other] = await read(queue, again)
            assert other.position != one.position
            assert (await queue.settle(again, [one.position])).count == 1
    finally:
        server.kill()
