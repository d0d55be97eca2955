"""Encryption at rest: what is stored of webhooks, sealed with the operator's keys.

Owns the format. The twins of the queue and of the history seal each record before it is stored and open it
when it is read; the composition root makes the Sealer from the settings. It must never log or raise a key or
what was sealed. It keeps what is stored secret from whoever gets the disk or a backup; against somebody who
may write to the store it does not help, since records without a seal are taken as well.

A sealed record is ``version(1) key-id(8) nonce(24) ciphertext tag(16)``; a plain one is ``0`` and the data.
The cipher is XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM under a key that is derived for each record
from the first half of a nonce so long that it can be drawn at random for ever. Plain AES-256-GCM would need
a new key after 2^32 records (NIST SP 800-38D, section 8.3), and history and queue together store that many.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256

KEY_SIZE: Final = 32
"""Bytes of a key."""
_PLAIN: Final = b"\x00"
_SEALED: Final = b"\x01"
_ID: Final = 8
_NONCE: Final = 24
_HEAD: Final = 1 + _ID + _NONCE
_TAG: Final = 16


class SealError(Exception):
    """A record cannot be opened: no key fits, or it was changed, or it was stored about something else."""


class Sealer:
    """Seals with its first key and opens with all of them. Without a key it stores plainly.

    May be used from several threads at once.
    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        """Take keys of KEY_SIZE bytes; raises ValueError for any other."""
        if any(len(key) != KEY_SIZE for key in keys):
            raise ValueError(f"a storage key has {KEY_SIZE} bytes")
        self._keys = {_key_id(key): _Key(key) for key in keys}
        self._first = _key_id(keys[0]) if keys else None

    @classmethod
    def from_setting(cls, text: str) -> Sealer:
        """Read keys as they stand in a setting: base64 or hexadecimal, the newest first, commas between.

        An empty text gives a Sealer without a key. Raises ValueError, whose text holds nothing of a key.
        """
        return cls([_parse(part.strip()) for part in text.split(",")] if text.strip() else [])

    @property
    def seals(self) -> bool:
        """Whether there is a key to seal with."""
        return self._first is not None

    def seal(self, data: bytes, about: str) -> bytes:
        """Return ``data`` as it is to be stored; `open` wants the same ``about`` (an id) to give it back."""
        if self._first is None:
            return _PLAIN + data
        nonce = os.urandom(_NONCE)
        sealed = self._keys[self._first].cipher(nonce).encrypt(nonce[12:], data, about.encode())
        return b"".join((_SEALED, self._first, nonce, sealed))

    def open(self, stored: bytes, about: str) -> bytes:
        """Return what was sealed, or stored plainly. Raises SealError."""
        if stored[:1] == _PLAIN:
            return stored[1:]
        if stored[:1] != _SEALED or len(stored) < _HEAD + _TAG:
            raise SealError(f"what is stored about {about} is not in a form that this program knows")
        identity, nonce = stored[1 : 1 + _ID], stored[1 + _ID : _HEAD]
        key = self._keys.get(identity)
        if key is None:
            raise SealError(
                f"what is stored about {about} was sealed with the key {identity.hex()}, which is not among "
                "those of WHOOK_BACKPLANE_STORAGE_KEY"
            )
        try:
            return key.cipher(nonce).decrypt(nonce[12:], stored[_HEAD:], about.encode())
        except InvalidTag:
            raise SealError(f"what is stored about {about} was changed, or is about something else") from None


class _Key:
    """One key, ready to derive those of the records from it (the names are the specification's)."""

    __slots__ = ("_ecb", "_k1")

    def __init__(self, key: bytes) -> None:
        # ECB as the bare block function: each input is one block, made by the derivation.
        self._ecb = Cipher(AES256(key), modes.ECB())  # noqa: S305
        low = int.from_bytes(self._block(bytes(16)), "big") << 1
        if low >> 128:
            low ^= 1 << 128 | 0b10000111
        self._k1 = low

    def cipher(self, nonce: bytes) -> AESGCM:
        """Return the cipher of one record, whose own nonce is the second half."""
        return AESGCM(b"".join(self._half(counter, nonce[:12]) for counter in (b"\x01", b"\x02")))

    def _half(self, counter: bytes, nonce: bytes) -> bytes:
        block = int.from_bytes(b"\x00" + counter + b"X\x00" + nonce, "big")
        return self._block((block ^ self._k1).to_bytes(16, "big"))

    def _block(self, block: bytes) -> bytes:
        encryptor = self._ecb.encryptor()
        return encryptor.update(block) + encryptor.finalize()


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"whook storage key\x00" + key).digest()[:_ID]


def _parse(text: str) -> bytes:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_SIZE else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_SIZE:
        raise ValueError(
            f"a key is {KEY_SIZE} random bytes in base64 or hexadecimal: make one with "
            "`openssl rand -base64 32`; commas separate several"
        )
    return key
