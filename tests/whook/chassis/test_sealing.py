"""What is sealed is secret, whole, about one thing, and can be opened with any of the keys."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook.chassis import sealing
from whook.chassis.sealing import Sealer, SealError

OLD, NEW = os.urandom(32), os.urandom(32)
DATA = b"payment of 20 EUR" * 10


def test_the_cipher_is_that_of_the_specification() -> None:
    """The two vectors of c2sp.org/XAES-256-GCM: a key whose L needs the reduction, and one that does not."""
    nonce = b"ABCDEFGHIJKLMNOPQRSTUVWX"
    plain = b"XAES-256-GCM"
    first = sealing._Key(b"\x01" * 32).cipher(nonce).encrypt(nonce[12:], plain, None)
    assert first.hex() == "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"
    second = sealing._Key(b"\x03" * 32).cipher(nonce).encrypt(nonce[12:], plain, b"c2sp.org/XAES-256-GCM")
    assert second.hex() == "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"


@given(data=st.binary(max_size=300), about=st.text(max_size=30))
def test_what_was_sealed_comes_back(data: bytes, about: str) -> None:
    for sealer in (Sealer(), Sealer([NEW]), Sealer([NEW, OLD])):
        assert sealer.open(sealer.seal(data, about), about) == data


def test_sealed_data_shows_nothing_and_never_looks_the_same() -> None:
    sealer = Sealer([NEW])
    first, second = sealer.seal(DATA, "evt_1"), sealer.seal(DATA, "evt_1")
    assert first != second
    assert b"payment" not in first
    assert sealer.seals
    assert not Sealer().seals


def test_the_first_key_seals_and_all_of_them_open() -> None:
    before = Sealer([OLD]).seal(DATA, "evt_1")
    rotated = Sealer([NEW, OLD])
    assert rotated.open(before, "evt_1") == DATA
    after = rotated.seal(DATA, "evt_1")
    assert Sealer([NEW]).open(after, "evt_1") == DATA
    with pytest.raises(SealError, match="WHOOK_BACKPLANE_STORAGE_KEY"):
        Sealer([OLD]).open(after, "evt_1")
    with pytest.raises(SealError, match="not among"):
        Sealer().open(after, "evt_1")


def test_what_was_stored_before_there_was_a_key_can_be_read() -> None:
    assert Sealer([NEW]).open(Sealer().seal(DATA, "evt_1"), "evt_1") == DATA


def test_a_record_is_about_one_thing() -> None:
    sealer = Sealer([NEW])
    with pytest.raises(SealError, match="evt_2 was changed"):
        sealer.open(sealer.seal(DATA, "evt_1"), "evt_2")


@given(at=st.integers(0, 200), bit=st.integers(0, 7))
def test_any_change_is_noticed(at: int, bit: int) -> None:
    sealed = bytearray(Sealer([NEW]).seal(DATA, "evt_1"))
    sealed[at % len(sealed)] ^= 1 << bit
    if sealed[0] != 0:  # then it says of itself that it is not sealed
        with pytest.raises(SealError):
            Sealer([NEW]).open(bytes(sealed), "evt_1")


@pytest.mark.parametrize("stored", [b"", b"\x01", b"\x02" + bytes(80), b"\x01" + bytes(47)])
def test_what_is_no_record_is_refused(stored: bytes) -> None:
    with pytest.raises(SealError, match="form"):
        Sealer([NEW]).open(stored, "evt_1")


def test_keys_are_read_from_a_setting() -> None:
    text = f" {base64.b64encode(NEW).decode()} ,{OLD.hex()}"
    assert Sealer([OLD]).open(Sealer.from_setting(OLD.hex().upper()).seal(DATA, "x"), "x") == DATA
    assert Sealer.from_setting(text).open(Sealer([OLD]).seal(DATA, "x"), "x") == DATA
    assert Sealer([NEW]).open(Sealer.from_setting(text).seal(DATA, "x"), "x") == DATA
    assert not Sealer.from_setting("").seals
    assert not Sealer.from_setting(" ").seals


@pytest.mark.parametrize("text", ["secret", "00" * 31, "zz" * 32, ",", base64.b64encode(b"short").decode()])
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match="openssl rand -base64 32") as refused:
        Sealer.from_setting(text)
    assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer([b"short"])
