"""The audit trail: bounded, honest about what it left out, free of secrets; the admin from the console."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from tests.support.auth_rig import PASSWORD, open_auth_rig
from tests.support.deadlines import DEADLINE
from tests.support.tenants import World
from whook.backplane.ports import CALLER, AuthDenied, AuthStore, User
from whook_auth import audit
from whook_auth.accounts import create_admin
from whook_auth.audit import AuditTrail
from whook_auth.buckets import KEYS, Buckets
from whook_auth.passwords import Passwords
from whook_auth.service import AuthService

CHEAP = Passwords(time_cost=1, memory_cost=8)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_refills() -> None:
    clock = Clock()
    buckets = Buckets(2, 0.5, clock)
    assert [buckets.take("a") for _ in range(4)] == [0.0, 0.0, 2.0, 2.0]
    assert buckets.take("b") == 0.0
    assert buckets.refused("a") == 2
    assert buckets.refused("a") == 0
    clock.now = 2.0
    assert buckets.take("a") == 0.0
    assert buckets.take("a") == 2.0


def test_buckets_are_bounded_in_number() -> None:
    buckets = Buckets(1, 0.1, Clock())
    assert buckets.take("first") == 0.0
    for n in range(KEYS):
        buckets.take(str(n))
    assert buckets.refused("first") == 0
    assert buckets.take("first") == 0.0


async def test_refusals_are_bounded_and_the_missing_are_counted(
    store: AuthStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PER_ADDRESS", (3, 0.001))
    trail = AuditTrail(store, lambda: datetime.now(UTC))
    for n in range(10):
        await trail.refused("test", detail=str(n), address="192.0.2.1")
    await trail.refused("test", detail="another", address="192.0.2.2")
    assert [entry.detail for entry in await store.audit()] == ["another", "2", "1", "0"]
    monkeypatch.setattr(trail, "_each", Buckets(3, 1000.0))
    await trail.refused("test", detail="told", address="192.0.2.3", unwritten=5)
    assert (await store.audit())[0].detail == "told (and 5 refusals before it that were not written)"


async def test_decisions_are_counted_even_where_they_are_not_written(
    auth: AuthService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth.trail, "_each", Buckets(1, 0.001))
    token = await auth.bootstrap_token()
    assert token is not None
    principal = await auth.authenticate(token)
    for _ in range(3):
        with pytest.raises(AuthDenied):
            await auth.authenticate("whk_nonsense")
        with pytest.raises(AuthDenied):
            await auth.authorize_tunnel(principal, "shop", create=False)
    await auth.authorize_tunnel(principal, "shop", create=True)
    await auth.trail.refused("an action without a count")
    counted = {key: count for key, count in auth.trail.decisions.items() if count}
    assert counted == {
        ("token.use", "granted"): 1,
        ("token.use", "refused"): 3,
        ("tunnel.open", "granted"): 1,
        ("tunnel.open", "refused"): 3,
    }


async def test_what_is_written_is_printable_and_short(store: AuthStore) -> None:
    trail = AuditTrail(store, lambda: datetime.now(UTC))
    await trail.refused("test", actor="a\x1b[2J\n" + "x" * 1000, detail="d" * 1000)
    (entry,) = await store.audit()
    assert entry.actor.isprintable()
    assert (len(entry.actor), len(entry.detail)) == (255, 255)


async def test_changes_are_audited_with_who_and_where(auth: AuthService, store: AuthStore) -> None:
    user = await store.ensure_user(User(id="usr_ann", name="ann", created_at=datetime.now(UTC)))
    CALLER.set("192.0.2.7")
    _, stored = await auth.create_token(user.id, "x", {"connect"}, actor="ann")
    await auth.revoke_token(stored.id, actor="ann")
    await auth.revoke_token(stored.id, actor="ann")
    await auth.rotate_signing_key(actor="ann")
    found = [(one.action, one.actor, one.target, one.address) for one in reversed(await store.audit())]
    assert [one[0] for one in found] == ["token.create", "token.revoke", "key.rotate"]
    assert {one[1] for one in found} == {"ann"}
    assert {one[3] for one in found} == {"192.0.2.7"}
    assert found[0][2] == found[1][2] == stored.id


async def test_an_admin_from_the_console(store: AuthStore) -> None:
    assert await create_admin(store, "root1", PASSWORD, passwords=CHEAP)
    assert not await create_admin(store, "root1", PASSWORD + "!", passwords=CHEAP)
    account = await store.account(name="root1")
    assert account is not None
    assert account.admin
    assert await CHEAP.verify(account.password_hash, PASSWORD + "!")
    await store.disable_account(
        account.id, datetime.now(UTC), AuditTrail(store, lambda: datetime.now(UTC)).entry("x")
    )
    with pytest.raises(ValueError, match="disabled"):
        await create_admin(store, "root1", PASSWORD, passwords=CHEAP)
    with pytest.raises(ValueError, match="user name"):
        await create_admin(store, "Root 1", PASSWORD, passwords=CHEAP)


async def test_a_deleted_name_gets_a_new_project(tmp_path: Path) -> None:
    """Whoever claims it next must never see what was sent to the one before."""
    async with open_auth_rig(tmp_path) as rig:
        world = World(rig, {"ann": await rig.user("ann"), "eve": await rig.user("eve")})
        first = (await world.tunnel("ann")).json()["project_id"]
        assert (await world.tunnel("ann")).json()["project_id"] == first
        await rig.do("DELETE", "/v1/projects/shop", token=world.tokens["ann"])
        with trio.fail_after(DEADLINE):
            await rig.deleted.wait()
        second = (await world.tunnel("eve")).json()["project_id"]
        assert second != first
        assert (await world.tunnel("ann")).status_code == 403


async def test_no_secret_is_in_the_database_or_the_audit(tmp_path: Path) -> None:
    async with open_auth_rig(tmp_path) as rig:
        world = World(rig, {"ann": await rig.user("ann")})
        codes = await world.device()
        async with world.browser("ann") as browser:
            cookie = browser.cookies["whook_session"]
        everything = (tmp_path / "auth.db").read_bytes() + (tmp_path / "auth.db-wal").read_bytes()
        for secret in (world.tokens["ann"], rig.admin, codes["device_code"], cookie, PASSWORD):
            assert secret.encode() not in everything
        page = await rig.do("GET", "/v1/audit?limit=500")
        assert codes["user_code"] not in json.dumps(page)
