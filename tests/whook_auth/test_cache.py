"""The cache of principals: fresh for a moment, bounded, and honest about revocations."""

from __future__ import annotations

import pytest

from whook.backplane.ports import Principal
from whook_auth import cache as cache_module
from whook_auth.cache import FRESH, PrincipalCache


def principal(token_id: str) -> Principal:
    return Principal(user_id="u", user="ann", token_id=token_id, scopes=frozenset({"connect"}))


def test_an_entry_is_believed_for_a_moment() -> None:
    now = 0.0
    cache = PrincipalCache(lambda: now)
    cache.put(b"1", principal("t1"), revocations=0)
    now += FRESH * 0.99
    assert cache.get(b"1") == principal("t1")
    now += FRESH * 0.02
    assert cache.get(b"1") is None
    cache.put(b"1", principal("t1"), revocations=0)
    assert cache.get(b"1") == principal("t1")


def test_a_revoked_token_is_forgotten_under_every_digest() -> None:
    cache = PrincipalCache(lambda: 0.0)
    cache.put(b"1", principal("t1"), revocations=0)
    cache.put(b"2", principal("t2"), revocations=0)
    cache.forget("t1")
    assert cache.get(b"1") is None
    assert cache.get(b"2") == principal("t2")


def test_what_was_read_before_a_revocation_is_not_kept() -> None:
    cache = PrincipalCache(lambda: 0.0)
    before = cache.revocations
    cache.forget("t1")
    cache.put(b"1", principal("t1"), revocations=before)
    assert cache.get(b"1") is None


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "ENTRIES", 3)
    cache = PrincipalCache(lambda: 0.0)
    for n in range(5):
        cache.put(b"%d" % n, principal(f"t{n}"), revocations=0)
    assert [cache.get(b"%d" % n) is not None for n in range(5)] == [False, False, True, True, True]
