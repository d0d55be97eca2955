"""Who may open a tunnel for which project, and what its token says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import trio

from tests.support.clocks import WallClock
from whook.backplane.ports import AuthDenied, AuthStore, Principal, Project, User
from whook.chassis.tunnel_token import TunnelTokenInvalid, Verifier
from whook_auth.service import TUNNEL_LIFETIME, AuthService

OWNING = frozenset({"connect", "projects:write"})
SHOP = Project(id="prj_shop", name="shop", created_at=datetime(2026, 1, 1, tzinfo=UTC))
"""An id that no claim has."""


async def someone(store: AuthStore, name: str, *scopes: str) -> Principal:
    user = await store.ensure_user(User(id=f"usr_{name}", name=name, created_at=SHOP.created_at))
    return Principal(
        user_id=user.id, user=user.name, token_id=f"tok_{name}", scopes=frozenset(scopes) or OWNING
    )


async def forbidden(auth: AuthService, principal: Principal, project: str, *, create: bool = True) -> str:
    with pytest.raises(AuthDenied) as refused:
        await auth.authorize_tunnel(principal, project, create=create)
    assert refused.value.reason == "forbidden"
    return refused.value.detail


async def test_the_first_claimer_owns_and_others_are_forbidden(auth: AuthService, store: AuthStore) -> None:
    ann, bob = await someone(store, "ann"), await someone(store, "bob")
    await auth.authorize_tunnel(ann, "shop", create=True)
    for create in (True, False):
        await auth.authorize_tunnel(ann, "shop", create=create)
        detail = await forbidden(auth, bob, "shop", create=create)
        assert "ann" not in detail
    assert await store.owner("shop") == ann.user_id


async def test_racing_claimers_one_wins(auth: AuthService, store: AuthStore) -> None:
    people = [await someone(store, f"u{n}") for n in range(10)]
    won: list[Principal] = []

    async def race(principal: Principal) -> None:
        try:
            await auth.authorize_tunnel(principal, "shop", create=True)
        except AuthDenied:
            return
        won.append(principal)

    async with trio.open_nursery() as nursery:
        for principal in people:
            nursery.start_soon(race, principal)
    assert [principal.user_id for principal in won] == [await store.owner("shop")]


async def test_a_free_name_is_claimed_only_on_request(auth: AuthService, store: AuthStore) -> None:
    ann = await someone(store, "ann")
    assert "no project shop" in await forbidden(auth, ann, "shop", create=False)
    assert await store.owner("shop") is None


async def test_scopes(auth: AuthService, store: AuthStore) -> None:
    await auth.authorize_tunnel(await someone(store, "ann"), "shop", create=True)
    # The same user, by tokens that may less.
    await auth.authorize_tunnel(await someone(store, "ann", "connect"), "shop", create=True)
    assert "projects:write" in await forbidden(auth, await someone(store, "ann", "connect"), "blog")
    assert "connect" in await forbidden(auth, await someone(store, "ann", "projects:write"), "shop")
    assert "connect" in await forbidden(auth, await someone(store, "ann", "events:read"), "shop")
    assert await store.owner("blog") is None


async def test_an_admin_may_all_but_does_not_take_over(auth: AuthService, store: AuthStore) -> None:
    ann, root = await someone(store, "ann"), await someone(store, "root", "admin")
    await auth.authorize_tunnel(ann, "shop", create=True)
    await auth.authorize_tunnel(root, "shop", create=True)
    assert await store.owner("shop") == ann.user_id
    shop = replace(SHOP, id=await auth.authorize_tunnel(root, "shop", create=False))
    await auth.mint_tunnel_token(root, shop, "r1")
    await auth.authorize_tunnel(root, "blog", create=True)
    assert await store.owner("blog") == root.user_id


@pytest.mark.parametrize("name", ["", "Shop", "a.b", "api", "x" * 64, "shop\n"])
async def test_an_impossible_name_is_an_error_and_nobodys(
    auth: AuthService, store: AuthStore, name: str
) -> None:
    for create in (True, False):
        with pytest.raises(ValueError, match="project name"):
            await auth.authorize_tunnel(await someone(store, "ann"), name, create=create)
    assert await store.owner(name) is None


async def test_a_name_owned_before_it_was_reserved_stays_good(auth: AuthService, store: AuthStore) -> None:
    ann = await someone(store, "ann")
    await store.claim_project("api", ann.user_id, SHOP.created_at, project_id="prj_1")
    await auth.authorize_tunnel(ann, "api", create=True)


async def test_a_tunnel_token_says_what_it_is_for(auth: AuthService, store: AuthStore) -> None:
    ann = await someone(store, "ann")
    shop = replace(SHOP, id=await auth.authorize_tunnel(ann, "shop", create=True))
    minted = await auth.mint_tunnel_token(ann, shop, "r1")
    assert minted.token not in repr(minted)
    verifier = Verifier(await auth.jwks())
    claims = verifier.verify(minted.token, relay_id="r1")
    assert (claims.user_id, claims.token_id) == (ann.user_id, ann.token_id)
    assert (claims.project_id, claims.project, claims.relay_id) == (shop.id, "shop", "r1")
    assert claims.expires_at - claims.issued_at == TUNNEL_LIFETIME.total_seconds()
    assert minted.expires_at.timestamp() == claims.expires_at
    with pytest.raises(TunnelTokenInvalid, match="wrong-relay"):
        verifier.verify(minted.token, relay_id="r2")


async def test_minting_checks_the_rights_again(auth: AuthService, store: AuthStore) -> None:
    ann, bob = await someone(store, "ann"), await someone(store, "bob")
    with pytest.raises(AuthDenied, match="no project"):
        await auth.mint_tunnel_token(ann, SHOP, "r1")
    await auth.authorize_tunnel(ann, "shop", create=True)
    with pytest.raises(AuthDenied, match="somebody else"):
        await auth.mint_tunnel_token(bob, SHOP, "r1")
    with pytest.raises(AuthDenied, match="scope connect"):
        await auth.mint_tunnel_token(await someone(store, "ann", "events:read"), SHOP, "r1")


async def test_a_tunnel_token_does_not_outlive_the_access_token(
    auth: AuthService, store: AuthStore, clock: WallClock
) -> None:
    ann = await someone(store, "ann")
    await auth.authorize_tunnel(ann, "shop", create=True)
    shop = replace(SHOP, id=await auth.authorize_tunnel(ann, "shop", create=False))
    soon = replace(ann, expires_at=clock() + timedelta(minutes=5))
    minted = await auth.mint_tunnel_token(soon, shop, "r1")
    assert soon.expires_at is not None
    assert minted.expires_at <= soon.expires_at
    assert minted.expires_at > soon.expires_at - timedelta(seconds=3)
    with pytest.raises(AuthDenied) as refused:
        await auth.mint_tunnel_token(replace(ann, expires_at=clock()), shop, "r1")
    assert refused.value.reason == "expired"


async def test_no_token_is_minted_for_a_project_of_an_earlier_claim(
    auth: AuthService, store: AuthStore
) -> None:
    ann, bob, root = (
        await someone(store, "ann"),
        await someone(store, "bob"),
        await someone(store, "root", "admin"),
    )
    old = replace(SHOP, id=await auth.authorize_tunnel(ann, "shop", create=True))
    assert await auth.projects_of(ann) == {"shop": old.id}
    await store.delete_project("shop", auth.trail.entry("project.delete"))
    new = replace(SHOP, id=await auth.authorize_tunnel(bob, "shop", create=True))
    assert new.id > old.id
    assert await auth.projects_of(bob) == {"shop": new.id}
    for principal in (bob, root):
        with pytest.raises(AuthDenied, match="changed hands"):
            await auth.mint_tunnel_token(principal, old, "r1")
        await auth.mint_tunnel_token(principal, new, "r1")
