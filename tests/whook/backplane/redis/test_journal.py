"""The journal when Redis, or another reader, dies: what was appended comes, and nothing hangs."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from tests.support.deadlines import DEADLINE
from tests.support.history import answered
from tests.support.redis_server import RedisServer
from whook.backplane.ports import Journal, JournalEntry, JournalFull, Record, Unavailable
from whook.backplane.redis import RedisJournal, open_redis_journal
from whook.backplane.redis import journal as journal_module
from whook.backplane.redis.bridge import open_bridge
from whook.chassis.sealing import Sealer

PLAIN = Sealer()


async def take(journal: Journal, count: int) -> list[JournalEntry]:
    """Read until so many batches have come, whatever Redis does meanwhile."""
    found: list[JournalEntry] = []
    with trio.fail_after(DEADLINE):
        while len(found) < count:
            try:
                found += await journal.read()
            except Unavailable:
                await trio.testing.wait_all_tasks_blocked(0.05)
    assert len(found) == count
    return found


def batch() -> list[Record]:
    return [answered()]


def ids(entries: list[JournalEntry]) -> list[str]:
    return [record.event_id for entry in entries for record in entry.records]


async def test_a_dead_readers_batches_go_to_another(server: RedisServer) -> None:
    records = [batch() for _ in range(3)]
    async with open_bridge(server.url) as bridge:
        dead = RedisJournal(bridge, "x:", PLAIN)
        for one in records:
            await dead.append(one)
        assert len(await take(dead, 3)) == 3  # and nothing more is heard of it
        heir = RedisJournal(bridge, "x:", PLAIN, claim_after=0.05, claim_every=0.01)
        entries = await take(heir, 3)
        assert ids(entries) == [one[0].event_id for one in records]
        await heir.done([entry.key for entry in entries])
        assert server.client().xlen("x:journal") == 0
        assert server.client().get("x:journal-bytes") == b"0"


async def test_what_a_reader_is_busy_with_it_is_not_given_again(server: RedisServer) -> None:
    async with open_bridge(server.url) as bridge:
        journal = RedisJournal(bridge, "x:", PLAIN, claim_after=0.01, claim_every=0.01)
        await journal.append(batch())
        (busy,) = await take(journal, 1)
        assert await journal.read() == []
        await journal.append(batch())
        (other,) = await take(journal, 1)
        assert other.key != busy.key


async def test_two_readers_share_the_work(server: RedisServer) -> None:
    async with (
        open_redis_journal(server.url, PLAIN) as one,
        open_redis_journal(server.url, PLAIN) as two,
    ):
        expected = []
        for _ in range(12):
            records = batch()
            expected.append(records[0].event_id)
            await one.append(records)
        got = []
        for journal in (one, two) * 6:
            entries = await journal.read() if len(got) < 12 else []
            got += ids(entries)
            await journal.done([entry.key for entry in entries])
        assert sorted(got) == sorted(expected)


async def test_a_redis_that_was_killed_gives_back_what_it_kept(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    try:
        async with open_redis_journal(server.url, PLAIN) as journal:
            first, second = batch(), batch()
            await journal.append(first)
            (begun,) = await take(journal, 1)
            await journal.append(second)
            server.kill()
            with pytest.raises(Unavailable):
                await journal.append(batch())
            with pytest.raises(Unavailable):
                await journal.read()
            server.start()
            (entry,) = await take(journal, 1)
            assert ids([entry]) == [second[0].event_id]
            await journal.done([begun.key, entry.key])
            assert server.client().xlen("whook:journal") == 0
    finally:
        server.kill()


async def test_a_redis_that_lost_everything_is_used_again(server: RedisServer) -> None:
    async with open_redis_journal(server.url, PLAIN) as journal:
        await journal.append(batch())
        await take(journal, 1)
        server.kill()
        server.start()
        records = batch()
        with trio.fail_after(DEADLINE):
            while True:
                try:
                    await journal.append(records)
                    break
                except Unavailable:
                    await trio.testing.wait_all_tasks_blocked(0.05)
        assert ids(await take(journal, 1)) == [records[0].event_id]


async def test_a_batch_that_cannot_be_read_is_given_up(server: RedisServer) -> None:
    async with (
        open_redis_journal(server.url, Sealer([bytes(32)])) as sealed,
        open_redis_journal(server.url, Sealer([b"k" * 32])) as other_key,
    ):
        await sealed.append(batch())
        server.client().xadd("whook:journal", {"b": b"\x00nonsense"})
        assert await other_key.read() == []
        assert server.client().xlen("whook:journal") == 0


async def test_forgotten_readers_are_taken_out(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_redis_journal(server.url, PLAIN) as one:
        await one.append(batch())
        (entry,) = await take(one, 1)
        await one.done([entry.key])
    monkeypatch.setattr(journal_module, "FORGOTTEN_SECONDS", 0.0)
    async with open_redis_journal(server.url, PLAIN) as two:
        await two.read()
        await two.append(batch())
        await take(two, 1)
        readers = server.client().xinfo_consumers("whook:journal", "history")
    assert len(list(readers)) == 1  # type: ignore[arg-type]


async def test_the_bound_heals_when_the_count_is_wrong(server: RedisServer) -> None:
    async with open_redis_journal(server.url, PLAIN, max_bytes=5_000) as journal:
        server.client().set("whook:journal-bytes", 10**9)
        taken = 0
        full = False
        while not full:
            try:
                await journal.append(batch())
                taken += 1
            except JournalFull:
                full = True
        assert 3 < taken < 20
