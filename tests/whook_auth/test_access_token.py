"""Access tokens: their form, their checksum, and what is stored of them."""

from __future__ import annotations

import hashlib
import re

from hypothesis import given
from hypothesis import strategies as st

from whook_auth import access_token
from whook_auth.access_token import LENGTH, digest, is_well_formed, new_access_token


def test_form() -> None:
    token = new_access_token()
    assert re.fullmatch(r"whk_[0-9A-Za-z]{49}", token)
    assert len(token) == LENGTH == 53
    assert is_well_formed(token)


def test_every_token_is_another() -> None:
    assert len({new_access_token() for _ in range(1000)}) == 1000


def test_the_secret_has_room_for_256_bits() -> None:
    assert 62**43 >= 2**256
    assert 62**6 >= 2**32


def test_the_whole_range_keeps_its_length(monkeypatch: object) -> None:
    for number in (0, 1, 2**256 - 1):
        assert len(access_token._base62(number, 43)) == 43


@given(st.data())
def test_a_changed_character_is_noticed(data: st.DataObject) -> None:
    token = new_access_token()
    place = data.draw(st.integers(0, LENGTH - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))
    assert not is_well_formed(token[:place] + other + token[place + 1 :])


@given(st.integers(0, LENGTH - 1))
def test_a_cut_token_is_noticed(length: int) -> None:
    assert not is_well_formed(new_access_token()[:length])


@given(st.text())
def test_anything_else_is_no_token(text: str) -> None:
    assert not is_well_formed(text)
    assert not is_well_formed("whk_" + text)


def test_surroundings_are_noticed() -> None:
    token = new_access_token()
    for wrong in (f" {token}", f"{token}\n", f"{token}x", token.upper(), token.replace("whk_", "whx_")):
        assert not is_well_formed(wrong)


def test_the_digest_is_sha_256() -> None:
    token = new_access_token()
    assert digest(token) == hashlib.sha256(token.encode()).digest()
