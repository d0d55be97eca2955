"""Signing keys: made once, kept, and followed by others without anybody noticing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import trio

from tests.support.clocks import WallClock
from whook.backplane.ports import AuthStore, StoredKey
from whook.chassis.tunnel_token import SigningKey
from whook_auth.keys import PUBLISH_AHEAD, REFRESH, KeyRing

LIFETIME = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def kids(jwks: dict[str, Any]) -> list[str]:
    return [key["kid"] for key in jwks["keys"]]


@pytest.fixture
def ring(store: AuthStore, clock: WallClock) -> KeyRing:
    return KeyRing(store, lifetime=LIFETIME, now=clock)


async def test_the_first_key_is_made_and_kept(ring: KeyRing, store: AuthStore, clock: WallClock) -> None:
    await ring.open()
    kid = (await ring.signing()).kid
    assert kids(await ring.jwks()) == [kid]
    again = KeyRing(store, lifetime=LIFETIME, now=clock)
    await again.open()
    assert (await again.signing()).kid == kid


async def test_what_is_published_is_public(ring: KeyRing) -> None:
    await ring.open()
    for key in (await ring.jwks())["keys"]:
        assert set(key) == {"kty", "crv", "x", "kid", "use", "alg"}


async def test_services_that_start_together_publish_each_others_keys(
    store: AuthStore, clock: WallClock
) -> None:
    rings = [KeyRing(store, lifetime=LIFETIME, now=clock) for _ in range(5)]
    async with trio.open_nursery() as nursery:
        for ring in rings:
            nursery.start_soon(ring.open)
    signing = {(await ring.signing()).kid for ring in rings}
    for ring in rings:
        assert signing <= set(kids(await ring.jwks()))


async def test_a_rotation_goes_unnoticed(ring: KeyRing, clock: WallClock) -> None:
    await ring.open()
    old = (await ring.signing()).kid
    await ring.rotate()
    # Published at once, while the old one still signs.
    assert (await ring.signing()).kid == old
    [_, new] = published = kids(await ring.jwks())
    assert published == [old, new]
    clock.ahead = PUBLISH_AHEAD - SECOND
    assert (await ring.signing()).kid == old
    clock.ahead = PUBLISH_AHEAD + SECOND
    assert (await ring.signing()).kid == new
    # The last token of the old one may have been signed just before.
    clock.ahead = PUBLISH_AHEAD + LIFETIME
    assert kids(await ring.jwks()) == [old, new]
    clock.ahead = PUBLISH_AHEAD + LIFETIME + timedelta(seconds=REFRESH) + timedelta(minutes=1)
    assert kids(await ring.jwks()) == [new]


async def test_rotating_often_never_leaves_a_gap(ring: KeyRing, store: AuthStore, clock: WallClock) -> None:
    await ring.open()
    for minutes in range(0, 600, 7):
        clock.ahead = timedelta(minutes=minutes)
        await ring.rotate()
        signing = (await ring.signing()).kid
        assert signing in kids(await ring.jwks())
    assert len(await store.signing_keys()) < 20


async def test_a_service_learns_of_anothers_rotation_in_time(
    store: AuthStore, clock: WallClock, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ring.open()
    other = KeyRing(store, lifetime=LIFETIME, now=clock)
    await other.open()
    await other.rotate()
    clock.ahead = PUBLISH_AHEAD + SECOND
    monkeypatch.setattr("whook_auth.keys.REFRESH", 0.0)
    assert (await ring.signing()).kid == (await other.signing()).kid
    assert timedelta(seconds=REFRESH) < PUBLISH_AHEAD / 5


async def test_a_store_without_a_usable_key_gets_one(
    ring: KeyRing, store: AuthStore, clock: WallClock
) -> None:
    retired = SigningKey.generate()
    now = clock()
    await store.add_signing_key(
        StoredKey(kid=retired.kid, private_pem=retired.to_pem(), signs_from=now, retires_at=now)
    )
    await ring.open()
    assert (await ring.signing()).kid != retired.kid
