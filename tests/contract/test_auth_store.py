"""What every AuthStore must do."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import trio

from whook.backplane.ports import AuthStore, StoredKey, StoredToken, User

T0 = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
ANN = User(id="usr_ann", name="ann", created_at=T0)
BOB = User(id="usr_bob", name="bob", created_at=T0)


def token(name: str = "t1", **fields: Any) -> StoredToken:
    told: dict[str, Any] = {
        "id": f"tok_{name}",
        "user_id": ANN.id,
        "digest": os.urandom(32),
        "name": name,
        "scopes": frozenset({"connect", "events:read"}),
        "created_at": T0,
    }
    return StoredToken(**(told | fields))


def key(kid: str, signs_from: datetime = T0, retires_at: datetime | None = None) -> StoredKey:
    return StoredKey(
        kid=kid, private_pem=b"pem of " + kid.encode(), signs_from=signs_from, retires_at=retires_at
    )


@pytest.fixture
async def store(auth_store: AuthStore) -> AuthStore:
    await auth_store.ensure_user(ANN)
    await auth_store.ensure_user(BOB)
    return auth_store


async def test_a_user_is_stored_once(store: AuthStore) -> None:
    again = User(id="usr_other", name="ann", created_at=T0 + timedelta(days=1))
    assert await store.ensure_user(again) == ANN


async def test_a_token_is_found_by_its_digest_with_its_user(store: AuthStore) -> None:
    stored = token(expires_at=T0 + timedelta(days=1))
    await store.add_token(stored)
    assert await store.find_token(stored.digest) == (stored, ANN)
    assert await store.find_token(os.urandom(32)) is None


async def test_times_are_points_in_time(store: AuthStore) -> None:
    away = timezone(timedelta(hours=-7))
    stored = token(created_at=T0.astimezone(away))
    await store.add_token(stored)
    found = await store.find_token(stored.digest)
    assert found is not None
    assert found[0].created_at == T0
    assert found[0].created_at.tzinfo == UTC


async def test_a_users_tokens_are_listed_in_order(store: AuthStore) -> None:
    late = token("late", created_at=T0 + timedelta(seconds=1))
    early = token("early")
    others = token("others", user_id=BOB.id)
    for stored in (late, early, others):
        await store.add_token(stored)
    assert await store.tokens(ANN.id) == [early, late]
    assert await store.tokens("usr_nobody") == []


async def test_use_is_noted(store: AuthStore) -> None:
    stored = token()
    await store.add_token(stored)
    await store.touch_token(stored.id, T0 + timedelta(hours=1))
    [found] = await store.tokens(ANN.id)
    assert found.last_used_at == T0 + timedelta(hours=1)


async def test_a_token_is_revoked_once(store: AuthStore) -> None:
    stored = token()
    await store.add_token(stored)
    assert await store.revoke_token(stored.id, T0) is True
    assert await store.revoke_token(stored.id, T0 + timedelta(days=1)) is False
    assert await store.revoke_token("tok_unknown", T0) is False
    [found] = await store.tokens(ANN.id)
    assert found.revoked_at == T0


async def test_a_user_gets_one_bootstrap_token(store: AuthStore) -> None:
    added: list[bool] = []

    async def bootstrap(name: str) -> None:
        added.append(await store.add_bootstrap_token(token(name)))

    async with trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(bootstrap, f"b{n}")
    assert sorted(added) == [False] * 4 + [True]
    assert len(await store.tokens(ANN.id)) == 1
    assert await store.add_bootstrap_token(token("bobs", user_id=BOB.id)) is True


async def test_no_token_for_nobody(store: AuthStore) -> None:
    assert await store.add_bootstrap_token(token(user_id="usr_nobody")) is False
    assert await store.tokens("usr_nobody") == []


async def test_the_first_claimer_owns_a_name(store: AuthStore) -> None:
    assert await store.owner("shop") is None
    assert await store.claim_project("shop", ANN.id, T0, project_id="prj_1") == ANN.id
    assert await store.claim_project("shop", BOB.id, T0, project_id="prj_1") == ANN.id
    assert await store.claim_project("shop", ANN.id, T0, project_id="prj_1") == ANN.id
    assert await store.owner("shop") == ANN.id


async def test_racing_claims_agree_on_the_owner(store: AuthStore) -> None:
    owners: list[str] = []

    async def claim(user_id: str) -> None:
        owners.append(await store.claim_project("shop", user_id, T0, project_id="prj_1"))

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(claim, ANN.id if n % 2 else BOB.id)
    assert set(owners) == {await store.owner("shop")}


async def test_keys_come_in_the_order_in_which_they_sign(store: AuthStore) -> None:
    second, first = key("a", T0 + timedelta(hours=1)), key("b", T0)
    await store.add_signing_key(second)
    await store.add_signing_key(first)
    assert await store.signing_keys() == [first, second]


async def test_a_new_key_retires_those_in_use(store: AuthStore) -> None:
    gone, used, new = (
        key("gone", T0, T0 + timedelta(hours=1)),
        key("used"),
        key("new", T0 + timedelta(hours=2)),
    )
    await store.add_signing_key(gone)
    await store.add_signing_key(used)
    end = T0 + timedelta(hours=3)
    await store.add_signing_key(new, retire_others_at=end)
    assert {found.kid: found.retires_at for found in await store.signing_keys()} == {
        "gone": T0 + timedelta(hours=1),
        "used": end,
        "new": None,
    }
    await store.delete_retired_keys(T0 + timedelta(hours=2))
    assert {found.kid for found in await store.signing_keys()} == {"used", "new"}


def test_secrets_are_not_shown() -> None:
    assert "pem" not in repr(key("a"))


async def test_of_several_that_follow_a_key_one_does(auth_store: AuthStore) -> None:
    first = StoredKey(kid="k0", private_pem=b"pem", signs_from=T0)
    assert await auth_store.add_signing_key(first)
    added: list[bool] = []

    async def follow(kid: str) -> None:
        key = StoredKey(kid=kid, private_pem=b"pem", signs_from=T0 + timedelta(1))
        added.append(await auth_store.add_signing_key(key, retire_others_at=T0 + timedelta(2), after="k0"))

    async with trio.open_nursery() as nursery:
        for n in range(1, 6):
            nursery.start_soon(follow, f"k{n}")
    assert sorted(added) == [False] * 4 + [True]
    found = await auth_store.signing_keys()
    assert [(key.kid == "k0", key.retires_at) for key in found] == [
        (True, T0 + timedelta(2)),
        (False, None),
    ]
