"""The history's own affairs in SQL: what can be read without the key, which index is used, how it fails."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection

from tests.support.history import SHOP, T0, answered, delivered, news, stored_event
from whook.backplane.ports import EventQuery
from whook.backplane.sql import CONDUCTOR, SqlBlobs, SqlHistory, bodies, open_database, sqlite_url
from whook.chassis.ids import new_id
from whook.chassis.sealing import Sealer, SealError

KEY = Sealer([b"k" * 32])


def everything(folder: Path) -> bytes:
    """All bytes on the disk."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize("sealer", [KEY, Sealer()], ids=["sealed", "plain"])
async def test_with_a_key_nothing_of_a_webhook_can_be_read_from_the_disk(
    sealer: Sealer, tmp_path: Path
) -> None:
    parts = [b"in-target", b"in-head", b"in-body", b"in-large", b"in-answer", b"203.0.113.9"]
    async with open_database(sqlite_url(tmp_path / "c.db"), CONDUCTOR) as database:
        history = SqlHistory(database, sealer)
        small = stored_event(
            target=b"/in-target", headers=[(b"A", b"in-head")], body=b"in-body", peer="203.0.113.9"
        )
        delivery = delivered(small)
        assert delivery.response is not None
        response = msgspec.structs.replace(delivery.response, body=b"in-answer")
        await history.record([news(small, "answered", msgspec.structs.replace(delivery, response=response))])
        await history.record([answered(body=b"in-large" * 100_000)])
        assert [part in everything(tmp_path) for part in parts] == [not sealer.seals] * len(parts)


async def test_another_key_opens_nothing(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path / "c.db"), CONDUCTOR) as database:
        record = answered()
        await SqlHistory(database, KEY).record([record])
        with pytest.raises(SealError):
            await SqlHistory(database, Sealer()).get(SHOP, record.event_id)


async def test_a_key_that_comes_later_leaves_the_old_events_readable(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path / "c.db"), CONDUCTOR) as database:
        old, new = answered(T0), answered(T0 + 1)
        await SqlHistory(database, Sealer()).record([old])
        await SqlHistory(database, KEY).record([new])
        found = await SqlHistory(database, KEY).find(SHOP, EventQuery(grep="/hook"))
        assert [summary.id for summary in found] == [new.event_id, old.event_id]


async def test_lists_and_followers_use_an_index(tmp_path: Path) -> None:
    plans: list[str] = []
    async with open_database(sqlite_url(tmp_path / "c.db"), CONDUCTOR) as database:
        history = SqlHistory(database, Sealer())
        await history.record([answered(T0 + n) for n in range(3)])
        statements: list[tuple[str, object]] = []

        def note(_c: Connection, _k: object, statement: str, parameters: object, *_: object) -> None:
            statements.append((statement, parameters))

        event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            await history.find(SHOP, EventQuery(since=T0, after=new_id("evt")))
            await history.find(SHOP, EventQuery(failed=True, oldest_first=True))
            await history.follow(SHOP, -1, 1)
            await history.follow(SHOP, 1, 10)
            await history.get(SHOP, new_id("evt"))
            await history.prune(before=T0, keep_bytes=1 << 60, dead_before=0, waiting={SHOP})
        finally:
            event.remove(sa.Engine, "before_cursor_execute", note)
    with sqlite3.connect(tmp_path / "c.db") as connection:
        for statement, parameters in statements:
            if statement.startswith("SELECT") and "FROM events" in statement:
                plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
                plans += [str(row[3]) for row in plan]
    assert plans
    assert [plan for plan in plans if plan.startswith("SCAN")] == []


async def test_bodies_that_nobody_needs_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_database(sqlite_url(tmp_path / "c.db"), CONDUCTOR) as database:
        history, blobs = SqlHistory(database, Sealer()), SqlBlobs(database, Sealer())
        kept = answered(T0, body=bytes(300_000))
        await history.record([kept])
        orphan = new_id("evt")
        await blobs.put(orphan, b"x")
        keep = {"before": 0.0, "keep_bytes": 1 << 60, "dead_before": 0.0}
        await history.prune(**keep)  # type: ignore[arg-type]
        assert await blobs.get(orphan) == b"x"  # its event may be on its way
        monkeypatch.setattr(bodies, "LEFT_BEHIND_SECONDS", -1.0)
        await history.prune(**keep, waiting={"prj_any"})  # type: ignore[arg-type]
        assert await blobs.get(orphan) == b"x"  # or in the queue
        await history.prune(**keep)  # type: ignore[arg-type]
        assert await blobs.get(orphan) is None
        assert await blobs.get(kept.event_id) == bytes(300_000)
