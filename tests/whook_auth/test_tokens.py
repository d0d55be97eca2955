"""Authenticating: what is accepted, what is refused and why, and what a repeated call costs."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

from tests.support.clocks import WallClock
from tests.support.deadlines import DEADLINE
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import (
    TOPIC_KICK,
    AuthDenied,
    AuthStore,
    StoredToken,
    Unavailable,
    User,
    decode_kick,
)
from whook_auth.access_token import digest, new_access_token
from whook_auth.cache import FRESH
from whook_auth.service import TUNNEL_LIFETIME, USE_NOTED, AuthService, open_auth

DAY = timedelta(days=1)


async def denied(auth: AuthService, token: str) -> str:
    with pytest.raises(AuthDenied) as refused:
        await auth.authenticate(token)
    if len(token) > len("whk_"):
        assert token not in str(refused.value)
    return refused.value.reason


class Counting:
    """A store that counts look-ups, and can fail to note uses; the rest is the real one's."""

    def __init__(self, store: AuthStore) -> None:
        self._store = store
        self.look_ups = 0
        self.touches = 0
        self.broken = False
        self.before_answer: trio.Event | None = None
        self.looking = trio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def find_token(self, key: bytes) -> tuple[StoredToken, User] | None:
        self.look_ups += 1
        found = await self._store.find_token(key)
        self.looking.set()
        if self.before_answer is not None:
            await self.before_answer.wait()
        return found

    async def touch_token(self, token_id: str, used_at: object) -> None:
        self.touches += 1
        if self.broken:
            raise Unavailable("the disk is full")


async def test_a_token_names_its_user(auth: AuthService) -> None:
    token, stored = await auth.create_token(auth.admin.id, "laptop", {"connect"})
    principal = await auth.authenticate(token)
    assert (principal.user_id, principal.user) == (auth.admin.id, "admin")
    assert principal.token_id == stored.id
    assert principal.scopes == {"connect"}
    assert principal.expires_at is None


async def test_nothing_but_its_hash_is_stored(auth: AuthService, store: AuthStore) -> None:
    token, stored = await auth.create_token(auth.admin.id, "laptop", {"connect"})
    assert stored.digest == digest(token)
    assert token not in repr(await store.tokens(auth.admin.id))


@pytest.mark.parametrize("token", ["", "whk_", "Bearer x", "whk_" + "0" * 49, "ü" * 53, "whk_\x00"])
async def test_what_is_no_token_is_unknown_without_a_look_up(
    token: str, store: AuthStore, bus: MemoryBus
) -> None:
    counting = Counting(store)
    async with open_auth(counting, bus) as auth:  # type: ignore[arg-type]
        assert await denied(auth, token) == "unknown"
    assert counting.look_ups == 0


async def test_a_well_formed_stranger_is_unknown(auth: AuthService) -> None:
    assert await denied(auth, new_access_token()) == "unknown"


async def test_a_token_expires(auth: AuthService, clock: WallClock) -> None:
    token, stored = await auth.create_token(auth.admin.id, "ci", {"connect"}, lifetime=DAY)
    assert (await auth.authenticate(token)).expires_at == stored.expires_at
    clock.ahead = DAY - timedelta(minutes=1)
    await auth.authenticate(token)
    # Also while the cache still knows it as good.
    clock.ahead = DAY
    assert await denied(auth, token) == "expired"


async def test_a_revoked_token_is_refused_at_once(auth: AuthService) -> None:
    token, stored = await auth.create_token(auth.admin.id, "ci", {"connect"})
    other, _ = await auth.create_token(auth.admin.id, "laptop", {"connect"})
    await auth.authenticate(token)
    assert await auth.revoke_token(stored.id) is True
    assert await denied(auth, token) == "revoked"
    assert await auth.revoke_token(stored.id) is False
    await auth.authenticate(other)


async def test_revoking_closes_tunnels_and_can_be_repeated(auth: AuthService, bus: MemoryBus) -> None:
    _, stored = await auth.create_token(auth.admin.id, "ci", {"connect"})
    async with bus.subscribe(TOPIC_KICK) as subscription:
        for _ in range(2):
            await auth.revoke_token(stored.id)
            with trio.fail_after(DEADLINE):
                _, message = await subscription.__anext__()
            kick = decode_kick(message)
            assert (kick.token_id, kick.reason) == (stored.id, "the access token was revoked")
            assert kick.until - kick.at > TUNNEL_LIFETIME.total_seconds()
            assert message in await bus.kept(TOPIC_KICK)


async def test_a_repeated_call_asks_nobody(store: AuthStore, bus: MemoryBus, mock_clock: MockClock) -> None:
    # This clock stands still, so what was looked up stays fresh however slow the machine.
    counting = Counting(store)
    async with open_auth(counting, bus) as auth:  # type: ignore[arg-type]
        token, _ = await auth.create_token(auth.admin.id, "laptop", {"connect"})
        first = await auth.authenticate(token)
        assert [await auth.authenticate(token) for _ in range(50)] == [first] * 50
        assert counting.look_ups == 1
        mock_clock.jump(FRESH)
        await auth.authenticate(token)
        assert counting.look_ups == 2


async def test_a_look_up_that_a_revocation_overtook_is_not_kept(store: AuthStore, bus: MemoryBus) -> None:
    counting = Counting(store)
    counting.before_answer = trio.Event()
    async with open_auth(counting, bus) as auth:  # type: ignore[arg-type]
        token, stored = await auth.create_token(auth.admin.id, "laptop", {"connect"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(auth.authenticate, token)
            await counting.looking.wait()
            await auth.revoke_token(stored.id)
            counting.before_answer.set()
        assert await denied(auth, token) == "revoked"


async def test_use_is_noted_once_in_a_while(auth: AuthService, store: AuthStore, clock: WallClock) -> None:
    token, _ = await auth.create_token(auth.admin.id, "laptop", {"connect"})
    await auth.authenticate(token)
    [first] = await auth.tokens(auth.admin.id)
    assert first.last_used_at is not None
    # Each service starts without a cache.
    async with open_auth(store, MemoryBus(), now=clock) as another:
        await another.authenticate(token)
        assert await another.tokens(another.admin.id) == [first]
    clock.ahead = USE_NOTED + timedelta(seconds=1)
    async with open_auth(store, MemoryBus(), now=clock) as another:
        await another.authenticate(token)
        [later] = await another.tokens(another.admin.id)
    assert later.last_used_at is not None
    assert later.last_used_at - first.last_used_at >= USE_NOTED


async def test_a_use_that_cannot_be_noted_is_no_refusal(store: AuthStore, bus: MemoryBus) -> None:
    counting = Counting(store)
    counting.broken = True
    async with open_auth(counting, bus) as auth:  # type: ignore[arg-type]
        token, _ = await auth.create_token(auth.admin.id, "laptop", {"connect"})
        await auth.authenticate(token)
    assert counting.touches == 1


@pytest.mark.parametrize("scopes", [set(), {"everything"}, {"connect", "Admin"}])
async def test_scopes_are_checked(auth: AuthService, scopes: set[str]) -> None:
    with pytest.raises(ValueError, match="scopes out of admin, connect"):
        await auth.create_token(auth.admin.id, "laptop", scopes)


async def test_a_lifetime_lies_ahead(auth: AuthService) -> None:
    with pytest.raises(ValueError, match="future"):
        await auth.create_token(auth.admin.id, "laptop", {"connect"}, lifetime=timedelta(0))


async def test_the_bootstrap_token_is_given_once_ever(auth: AuthService, store: AuthStore) -> None:
    token = await auth.bootstrap_token()
    assert token is not None
    assert (await auth.authenticate(token)).scopes == {"admin"}
    assert await auth.bootstrap_token() is None
    [stored] = await auth.tokens(auth.admin.id)
    await auth.revoke_token(stored.id)
    async with open_auth(store, MemoryBus()) as another:
        assert another.admin == auth.admin
        assert await another.bootstrap_token() is None


async def test_a_local_token_is_good_in_its_own_service_only(auth: AuthService, store: AuthStore) -> None:
    token = auth.mint_local_token()
    principal = await auth.authenticate(token)
    assert principal.user_id == auth.admin.id
    assert principal.scopes == {"connect", "projects:write"}
    assert await store.tokens(auth.admin.id) == []
    async with open_auth(store, MemoryBus()) as another:
        assert await denied(another, token) == "unknown"
    with pytest.raises(ValueError, match="scopes"):
        auth.mint_local_token({"root"})
