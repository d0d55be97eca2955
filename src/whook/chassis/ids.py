"""Time-sortable identifiers: a type prefix and a ULID.

Called wherever a record gets its name (events, projects, tunnels, tokens). It must never be used for a
secret: within one millisecond neighbouring identifiers differ by one.

The layout is that of the ULID specification (github.com/ulid/spec): 48 bits of Unix milliseconds and 80
random bits, as 26 characters of Crockford's base 32.
"""

from __future__ import annotations

import os
import re
import threading
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
"""Two characters for each ten bits: encoding is table lookups only."""

_LOW_BITS = 30
_LOW_LIMIT = 1 << _LOW_BITS
_RANDOM_BITS = 80
_TIME_LIMIT = 1 << 48

_ID = re.compile(r"[a-z][a-z0-9]*_([0-7][0-9A-HJKMNP-TV-Z]{25})\Z")


def _encode(number: int, pairs: int) -> str:
    return "".join(_PAIRS[(number >> shift) & 1023] for shift in range(10 * (pairs - 1), -1, -10))


class _Clock:
    """The last value given out. Its 20 leading characters are encoded once per millisecond."""

    __slots__ = ("head", "low", "millisecond", "random_high")

    def __init__(self) -> None:
        self.millisecond = -1
        self.random_high = 0
        self.low = 0
        self.head = ""

    def restart(self, millisecond: int) -> None:
        # The top random bit stays clear, which leaves room for 2^79 increments: the carry cannot overflow.
        drawn = int.from_bytes(os.urandom(10), "big") >> 1
        self.millisecond = millisecond
        self.random_high = drawn >> _LOW_BITS
        self.low = drawn & (_LOW_LIMIT - 1)
        self._encode_head()

    def carry(self) -> None:
        self.random_high += 1
        self.low = 0
        self._encode_head()

    def _encode_head(self) -> None:
        high_bits = _RANDOM_BITS - _LOW_BITS
        self.head = _encode((self.millisecond % _TIME_LIMIT) << high_bits | self.random_high, 10)


_clock = _Clock()
_lock = threading.Lock()


def _after_fork() -> None:
    # A forked child would otherwise count on from its parent's last value.
    global _clock, _lock
    _clock = _Clock()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def new_id(prefix: str) -> str:
    """Return a new identifier, such as ``evt_01JZ…``; ``prefix`` is given without the underscore.

    Identifiers of one process sort in the order they were made, from any thread, also while the system clock
    stands still or is set back. Identifiers of different processes differ by 79 random bits per millisecond.
    """
    millisecond = time.time_ns() // 1_000_000
    with _lock:
        clock = _clock
        if millisecond > clock.millisecond:
            clock.restart(millisecond)
        else:
            clock.low += 1
            if clock.low == _LOW_LIMIT:
                clock.carry()
        low = clock.low
        head = clock.head
    return f"{prefix}_{head}{_PAIRS[low >> 20]}{_PAIRS[low >> 10 & 1023]}{_PAIRS[low & 1023]}"


def id_milliseconds(identifier: str) -> int:
    """Return when ``identifier`` was made, in Unix milliseconds. Raises ValueError for anything else."""
    match = _ID.match(identifier)
    if match is None:
        raise ValueError(f"not an identifier: {identifier[:64]!r}")
    number = 0
    for character in match[1][:10]:
        number = number << 5 | _VALUES[character]
    return number


def id_bound(prefix: str, millisecond: int) -> str:
    """Return text that sorts between identifiers made before this Unix millisecond, and all later ones."""
    return f"{prefix}_{_encode(millisecond % _TIME_LIMIT, 5)}"


def is_id(text: str, prefix: str) -> bool:
    """Whether ``text`` has the form of an identifier with this ``prefix``, as made by new_id."""
    return text.startswith(f"{prefix}_") and _ID.match(text) is not None
