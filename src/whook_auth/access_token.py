"""What an access token looks like: made here, recognised here, and never stored.

Pure functions, called by the service. Nothing here may keep or print a token.

A token is ``whk_``, 43 characters that carry 256 random bits, and 6 characters of checksum, all of them
letters and digits: it survives a double click, and scanners for leaked secrets find it by its prefix. The
checksum tells a token that was cut or mistyped from one that is unknown, without asking the database.
"""

from __future__ import annotations

import hashlib
import secrets
import string
import zlib

PREFIX = "whk_"

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_BYTES = 32
_SECRET_LENGTH = 43
"""Base 62 digits that hold 256 bits."""
_CHECKSUM_LENGTH = 6
"""Base 62 digits that hold a CRC-32."""
LENGTH = len(PREFIX) + _SECRET_LENGTH + _CHECKSUM_LENGTH


def new_access_token() -> str:
    """Return a new random token."""
    body = PREFIX + _base62(int.from_bytes(secrets.token_bytes(_SECRET_BYTES), "big"), _SECRET_LENGTH)
    return body + _checksum(body)


def is_well_formed(token: str) -> bool:
    """Return whether ``token`` could be one that was made here, its checksum included."""
    if len(token) != LENGTH or not token.isascii() or not token.startswith(PREFIX):
        return False
    # The checksum is no secret, so it may be compared in the ordinary way.
    return token[-_CHECKSUM_LENGTH:] == _checksum(token[:-_CHECKSUM_LENGTH])


def digest(token: str) -> bytes:
    """Return what is stored in place of the token, and by which it is found.

    A plain SHA-256 is right for 256 random bits: there is nothing to guess that a slow hash would protect.
    A look-up by the digest needs no constant-time comparison either: its timing could tell at most leading
    bits of the digest, and from those nobody finds a token.
    """
    return hashlib.sha256(token.encode()).digest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
