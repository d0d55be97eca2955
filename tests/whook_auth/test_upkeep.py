"""What auth does by itself: keys follow one another unnoticed, and the audit trail does not grow for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.support.clocks import WallClock
from tests.support.twins import sqlite_auth_store
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import AuthStore, Project, Unavailable
from whook.chassis.tunnel_token import Verifier
from whook_auth.keys import PUBLISH_AHEAD
from whook_auth.service import TUNNEL_LIFETIME, AuthService, open_auth
from whook_auth.upkeep import INTERVAL, Upkeep

DAY = timedelta(days=1)


async def kids(auth: AuthService) -> list[str]:
    """Give the ids of the keys that are published."""
    return [key["kid"] for key in (await auth.jwks())["keys"]]


async def mint(auth: AuthService) -> str:
    """Mint a tunnel token; a project of the admin is there."""
    principal = await auth.authenticate(auth.mint_local_token())
    project_id = await auth.authorize_tunnel(principal, "shop", create=True)
    project = Project(id=project_id, name="shop", created_at=datetime.now(UTC))
    return (await auth.mint_tunnel_token(principal, project, "r1")).token


async def test_an_old_key_is_followed_without_anybody_noticing(tmp_path: Path) -> None:
    clock = WallClock()
    async with sqlite_auth_store(tmp_path) as store, open_auth(store, MemoryBus(), now=clock) as auth:
        upkeep = Upkeep(auth, store, audit_days=0, key_days=30, now=clock)
        (old,) = await kids(auth)
        clock.ahead = 29 * DAY
        await upkeep.do()
        assert await kids(auth) == [old]

        clock.ahead = 31 * DAY
        await upkeep.do()
        both = await kids(auth)
        (new,) = set(both) - {old}
        published = Verifier(await auth.jwks())  # what a relay has from now on
        assert published.verify(await mint(auth), relay_id="r1"), "the old one still signs"
        await upkeep.do()
        assert await kids(auth) == both, "once"

        clock.ahead += PUBLISH_AHEAD + timedelta(seconds=1)
        token = await mint(auth)
        assert published.verify(token, relay_id="r1")
        clock.ahead += TUNNEL_LIFETIME + timedelta(minutes=2)
        assert await kids(auth) == [new], "its last token has ended"
        assert Verifier(await auth.jwks()).verify(token, relay_id="r1"), "this one was the new key's"
        (entry,) = [one for one in await store.audit() if one.action == "key.rotate"]
        assert entry.detail == "by its age"


async def test_of_two_processes_one_rotates(tmp_path: Path) -> None:
    clock = WallClock()
    async with (
        sqlite_auth_store(tmp_path) as store,
        open_auth(store, MemoryBus(), now=clock) as first,
        open_auth(store, MemoryBus(), now=clock) as second,
    ):
        clock.ahead = 31 * DAY
        async with trio.open_nursery() as nursery:
            for auth in (first, second):
                nursery.start_soon(Upkeep(auth, store, audit_days=0, key_days=30, now=clock).do)
        assert len(await kids(first)) == 2


async def test_old_audit_entries_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whook_auth.upkeep.BATCH", 3)
    clock = WallClock()
    async with sqlite_auth_store(tmp_path) as store, open_auth(store, MemoryBus(), now=clock) as auth:
        old = [auth.trail.entry(f"old.{n}") for n in range(10)]
        await store.append_audit(old)
        clock.ahead = 100 * DAY
        await store.append_audit([auth.trail.entry("young")])
        await Upkeep(auth, store, audit_days=0, key_days=0, now=clock).do()
        assert len(await store.audit()) == 11, "0 stands for never"
        await Upkeep(auth, store, audit_days=90, key_days=0, now=clock).do()
        assert [one.action for one in await store.audit()] == ["young"]
        assert len(await kids(auth)) == 1


async def test_what_fails_is_done_the_next_time(autojump_clock: trio.abc.Clock) -> None:
    """Without threads, so that the clock may jump."""
    asked = 0

    class Broken(Upkeep):
        async def do(self) -> None:
            nonlocal asked
            asked += 1
            await trio.lowlevel.checkpoint()
            if asked == 1:
                raise Unavailable("the database is away")

    none: AuthService | AuthStore | None = None
    upkeep = Broken(none, none, audit_days=1, key_days=1, now=WallClock())  # type: ignore[arg-type]
    with trio.move_on_after(2 * INTERVAL):
        await upkeep.run()
    assert asked >= 2
