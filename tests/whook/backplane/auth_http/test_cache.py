"""What the client of auth remembers, for how long, and what makes it forget."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from whook.backplane.auth_http.cache import ENTRIES, FRESH, OUTAGE, DecisionCache
from whook.backplane.ports import Kick, Principal

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def principal_of(token_id: str, expires_at: datetime | None = None) -> Principal:
    return Principal(
        user_id="usr_1", user="ann", token_id=token_id, scopes=frozenset({"connect"}), expires_at=expires_at
    )


class Time:
    """What the cache takes the time to be."""

    seconds = 0.0
    now = NOW


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def cache(time: Time) -> DecisionCache:
    return DecisionCache(lambda: time.seconds, lambda: time.now)


def test_it_ends(cache: DecisionCache, time: Time) -> None:
    ann = principal_of("tok_1")
    cache.put_principal("t", ann, kicks=0)
    cache.put_authorized(ann, "shop", "prj_1", kicks=0)
    assert (cache.principal("t"), cache.authorized(ann, "shop")) == (ann, "prj_1")
    time.seconds = FRESH
    assert (cache.principal("t"), cache.authorized(ann, "shop")) == (None, None)
    assert cache.principal("t", outage=True) == ann
    assert cache.authorized(ann, "shop", outage=True)
    time.seconds = OUTAGE
    assert cache.principal("t", outage=True) is None
    assert not cache.authorized(ann, "shop", outage=True)


def test_no_longer_than_the_token(cache: DecisionCache, time: Time) -> None:
    cache.put_principal("t", principal_of("tok_1", NOW + timedelta(seconds=5)), kicks=0)
    assert cache.principal("t") is not None
    time.now += timedelta(seconds=5)
    assert cache.principal("t", outage=True) is None


@pytest.mark.parametrize(
    ("kick", "principal_stays", "right_stays"),
    [
        (Kick(token_id="tok_1", reason="x"), False, False),
        (Kick(token_id="tok_2", reason="x"), True, True),
        (Kick(user_id="usr_1", reason="x"), False, False),
        (Kick(user_id="usr_1", project="shop", reason="x"), False, False),
        (Kick(user_id="usr_1", project="blog", reason="x"), False, True),
        (Kick(project="shop", reason="x"), False, False),
        (Kick(project_id="prj_1", reason="x"), False, False),
    ],
)
def test_a_kick_is_heeded(kick: Kick, principal_stays: bool, right_stays: bool, cache: DecisionCache) -> None:
    ann = principal_of("tok_1")
    cache.put_principal("t", ann, kicks=0)
    cache.put_authorized(ann, "shop", "prj_1", kicks=0)
    cache.forget(kick)
    assert (cache.principal("t") is not None) == principal_stays
    assert (cache.authorized(ann, "shop") is not None) == right_stays


def test_an_answer_older_than_a_kick_is_not_kept(cache: DecisionCache) -> None:
    kicks = cache.kicks
    cache.forget(Kick(token_id="tok_1", reason="x"))
    cache.put_principal("t", principal_of("tok_1"), kicks=kicks)
    cache.put_authorized(principal_of("tok_1"), "shop", "prj_1", kicks=kicks)
    assert cache.principal("t") is None
    assert not cache.authorized(principal_of("tok_1"), "shop")


def test_it_is_bounded(cache: DecisionCache) -> None:
    for n in range(ENTRIES + 10):
        cache.put_principal(f"t{n}", principal_of(f"tok_{n}"), kicks=0)
    assert cache.principal("t9") is None
    assert cache.principal("t10") is not None
