"""The half of AuthStore that is about people, for every twin."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trio

from whook.backplane.ports import Account, AuditEntry, AuthStore, DeviceGrant, Session, StoredToken

T0 = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ANN, BOB = (
    Account(id=f"usr_{name}", name=name, created_at=T0, password_hash="$argon2id$x")
    for name in ("ann", "bob")
)
_numbers = iter(range(1_000_000))


def entry(action: str = "test") -> AuditEntry:
    return AuditEntry(
        id=f"aud_{next(_numbers):08}",
        at=T0,
        action=action,
        outcome="ok",
        actor="ann",
        target="",
        address="::1",
        detail="",
    )


def grant(name: str = "a", **more: object) -> DeviceGrant:
    values = {
        "digest": name.encode().ljust(32),
        "user_code": f"BBBB-{name * 4}",
        "scopes": frozenset({"connect", "projects:write"}),
        "client": "test",
        "address": "::1",
        "created_at": T0,
        "expires_at": T0 + HOUR,
        "interval": 5,
    }
    return DeviceGrant(**(values | more))  # type: ignore[arg-type]


def token(name: str, user: Account = ANN) -> StoredToken:
    return StoredToken(
        id=f"tok_{name}",
        user_id=user.id,
        digest=name.encode().ljust(32),
        name=name,
        scopes=frozenset({"connect"}),
        created_at=T0,
        projects=frozenset({"shop", "bank"}),
    )


@pytest.fixture
async def store(auth_store: AuthStore) -> AuthStore:
    for account in (ANN, BOB):
        assert await auth_store.add_account(account, entry("user.create"))
    return auth_store


async def actions(store: AuthStore) -> list[str]:
    return [one.action for one in reversed(await store.audit())]


async def test_accounts(store: AuthStore) -> None:
    assert await store.account(name="ann") == ANN
    assert await store.account(user_id=BOB.id) == BOB
    assert await store.account(name="eve") is None
    assert await store.accounts() == [ANN, BOB]
    other = Account(id="usr_other", name="ann", created_at=T0)
    assert not await store.add_account(other, entry("not written"))
    assert await actions(store) == ["user.create", "user.create"]


async def test_tokens_keep_their_projects(store: AuthStore) -> None:
    await store.add_token(token("a"), entry("token.create"))
    assert await store.tokens(ANN.id) == [token("a")]
    assert (await actions(store))[-1] == "token.create"


async def test_a_disabled_account_loses_everything(store: AuthStore) -> None:
    await store.add_token(token("a"))
    await store.add_token(token("b", BOB))
    session = Session(digest=b"s" * 32, user_id=ANN.id, created_at=T0, expires_at=T0 + HOUR)
    await store.add_session(session, entry())
    assert await store.disable_account(ANN.id, T0 + HOUR, entry("user.disable"))
    assert not await store.disable_account(ANN.id, T0 + HOUR, entry("again"))
    assert [one.revoked_at for one in await store.tokens(ANN.id)] == [T0 + HOUR]
    assert [one.revoked_at for one in await store.tokens(BOB.id)] == [None]
    assert await store.session(session.digest) is None
    assert "again" not in await actions(store)


async def test_a_new_password_ends_sessions(store: AuthStore) -> None:
    session = Session(digest=b"s" * 32, user_id=ANN.id, created_at=T0, expires_at=T0 + HOUR)
    await store.add_session(session, entry())
    assert await store.session(session.digest) == (session, ANN)
    await store.set_password(ANN.id, "new", admin=True, audit=entry())
    assert await store.session(session.digest) is None
    changed = await store.account(name="ann")
    assert changed is not None
    assert (changed.password_hash, changed.admin) == ("new", True)


async def roles(store: AuthStore) -> dict[str, str]:
    return {one.user: one.role for one in await store.memberships(project="shop")}


async def test_members_and_the_last_owner(store: AuthStore) -> None:
    assert not await store.set_member("shop", BOB.id, "viewer", T0, entry())
    await store.claim_project("shop", ANN.id, T0, project_id="prj_1")
    assert await store.set_member("shop", BOB.id, "viewer", T0, entry())
    assert await roles(store) == {"ann": "owner", "bob": "viewer"}
    assert await store.role("shop", BOB.id) == "viewer"
    assert not await store.remove_member("shop", ANN.id, entry("not written"))
    assert not await store.set_member("shop", ANN.id, "developer", T0, entry("not written"))
    assert await store.set_member("shop", BOB.id, "owner", T0, entry())
    assert await store.set_member("shop", ANN.id, "developer", T0, entry())
    assert await roles(store) == {"ann": "developer", "bob": "owner"}
    assert await store.owner("shop") == BOB.id
    assert await store.remove_member("shop", ANN.id, entry("member.remove"))
    assert not await store.remove_member("shop", ANN.id, entry("not written"))
    assert await store.memberships(user_id=ANN.id) == []
    assert "not written" not in await actions(store)


async def test_a_deleted_project_forgets_its_members(store: AuthStore) -> None:
    await store.claim_project("shop", ANN.id, T0, project_id="prj_1")
    await store.set_member("shop", BOB.id, "developer", T0, entry())
    assert await store.delete_project("shop", entry())
    assert not await store.delete_project("shop", entry("not written"))
    assert await store.memberships() == []
    assert await store.claim_project("shop", BOB.id, T0, project_id="prj_1") == BOB.id
    assert await roles(store) == {"bob": "owner"}


async def test_a_device_login(store: AuthStore) -> None:
    first = grant()
    assert await store.add_device_grant(first, 10)
    assert not await store.add_device_grant(grant("b", user_code=first.user_code), 10)
    assert await store.device_grant(first.user_code) == first
    assert await store.poll_device(first.digest, T0) == first
    again = await store.poll_device(first.digest, T0)
    assert again is not None
    assert again.polled_at == T0
    await store.slow_device(first.digest, 10)
    assert not await store.redeem_device(first.digest, token("x"), entry("not written"))
    decide = {"user_code": first.user_code, "user_id": ANN.id, "approved": True}
    assert not await store.decide_device(**decide, at=T0 + HOUR, audit=entry("not written"))
    assert await store.decide_device(**decide, at=T0, audit=entry("device.approve"))
    assert not await store.decide_device(**decide, at=T0, audit=entry("not written"))
    assert not await store.redeem_device(first.digest, token("x", BOB), entry("not written"))
    assert await store.redeem_device(first.digest, token("x"), entry("token.create"))
    assert (await actions(store))[-2:] == ["device.approve", "token.create"]
    assert "not written" not in await actions(store)


async def test_a_device_login_is_redeemed_once(store: AuthStore) -> None:
    first = grant()
    await store.add_device_grant(first, 10)
    await store.decide_device(first.user_code, ANN.id, approved=True, at=T0, audit=entry())
    won: list[bool] = []

    async def redeem(name: str) -> None:
        won.append(await store.redeem_device(first.digest, token(name), entry()))

    async with trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(redeem, f"t{n}")
    assert sorted(won) == [False] * 4 + [True]
    assert len(await store.tokens(ANN.id)) == 1


async def test_device_logins_are_bounded_and_expired_ones_go(store: AuthStore) -> None:
    assert await store.add_device_grant(grant("a"), 1)
    assert not await store.add_device_grant(grant("b"), 1)
    later = T0 + 2 * HOUR
    assert await store.add_device_grant(grant("b", created_at=later, expires_at=later + HOUR), 1)
    assert await store.device_grant(grant("a").user_code) is None


async def test_failures_are_counted_and_forgotten(store: AuthStore) -> None:
    for _ in range(3):
        await store.count_failure("k", T0, T0 - HOUR)
    found = await store.failures("k")
    assert found is not None
    assert (found.count, found.last_at) == (3, T0)
    await store.forgive_failure("k", everything=False)
    found = await store.failures("k")
    assert found is not None
    assert found.count == 2
    await store.forgive_failure("k", everything=True)
    assert await store.failures("k") is None
    await store.count_failure("old", T0, T0 - HOUR)
    await store.count_failure("new", T0 + 2 * HOUR, T0 + HOUR)
    assert await store.failures("old") is None


async def test_the_audit_trail_comes_in_pages(store: AuthStore) -> None:
    await store.append_audit([entry(f"a{n}") for n in range(5)])
    page = await store.audit(limit=2)
    assert [one.action for one in page] == ["a4", "a3"]
    assert [one.action for one in await store.audit(before=page[-1].id, limit=2)] == ["a2", "a1"]


async def test_the_earliest_audit_entries_are_pruned(auth_store: AuthStore) -> None:
    entries = [replace(entry(f"action.{n}"), at=T0 + timedelta(days=n)) for n in range(10)]
    await auth_store.append_audit(entries)
    before = T0 + timedelta(days=7)
    assert await auth_store.prune_audit(before, 5) == 5
    assert await auth_store.prune_audit(before, 5) == 2
    assert await auth_store.prune_audit(before, 5) == 0
    assert [one.action for one in await auth_store.audit()] == ["action.9", "action.8", "action.7"]
