"""Whether somebody else has the queue's file open, and what a process inherits from one that died."""

from __future__ import annotations

from pathlib import Path

from tests.support.queues import LONG, UNLIMITED, event
from whook.backplane.memory import MemoryBus
from whook.backplane.sql import open_sqlite_queue, sqlite_url
from whook.backplane.sql.file_use import use_file


def test_the_first_is_alone_until_it_shares(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    with use_file(path) as first:
        assert first.alone
        first.share()
        assert not first.alone
        with use_file(path) as second:
            assert not second.alone
    with use_file(path) as again:
        assert again.alone
    assert (tmp_path / "queue.db.lock").stat().st_mode & 0o077 == 0


async def test_leases_of_the_dead_end_at_once(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "queue.db")
    waiting = event()
    async with open_sqlite_queue(url, MemoryBus()) as queue:
        await queue.append(waiting, UNLIMITED)
        await queue.attend("dead", LONG)
        assert await queue.acquire(waiting.project_id, "dead") is not None
    async with open_sqlite_queue(url, MemoryBus()) as queue:  # as everybody else, who must wait
        await queue.attend("other", LONG)
        assert await queue.acquire(waiting.project_id, "other") is None
    async with open_sqlite_queue(url, MemoryBus(), inherit=True) as queue:
        await queue.attend("heir", LONG)
        ownership = await queue.acquire(waiting.project_id, "heir")
        assert ownership is not None
        (read,) = (await queue.read(ownership, limit=9, max_bytes=9_999, in_order=True)).entries
        assert read.event == waiting


async def test_nothing_is_inherited_from_the_living(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "queue.db")
    waiting = event()
    async with open_sqlite_queue(url, MemoryBus(), inherit=True) as queue:
        await queue.append(waiting, UNLIMITED)
        await queue.attend("alive", LONG)
        assert await queue.acquire(waiting.project_id, "alive") is not None
        async with open_sqlite_queue(url, MemoryBus(), inherit=True) as second:
            await second.attend("second", LONG)
            assert await second.acquire(waiting.project_id, "second") is None
            assert await queue.attend("alive", LONG)
