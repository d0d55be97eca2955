"""Which trace an event belongs to, and the ids of its spans: by arithmetic alone, the same in every process.

A sender's `traceparent` (W3C Trace Context, section 3.2) names the trace and the parent; without one the
event's id does. The id of each hop's span follows from the event's id, the attempt and the hop, so that every
hop knows its parent without a byte on the wire. Sans-IO; must never raise for what a sender wrote.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Hop = Literal["ingress", "trunk", "tunnel", "client", "local"]
HOPS: Final[tuple[Hop, ...]] = ("ingress", "trunk", "tunnel", "client", "local")
"""From the outside in: each is the parent of the next."""

_SAMPLED: Final = 1
_WHOLE: Final = 1 << 64
# Section 3.2.2: later versions may have more behind a dash; ff is no version.
_FORM: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ZERO_TRACE: Final = b"0" * 32
_ZERO_SPAN: Final = b"0" * 16


@dataclass(frozen=True, slots=True)
class Trace:
    """Where the spans of an event belong."""

    trace_id: int
    parent_id: int
    """Of the sender's span; 0 without one."""


def find_traceparent(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the value of the only `traceparent` field, b"" if there is none or more than one."""
    found = [value for name, value in headers if len(name) == 11 and name.lower() == b"traceparent"]
    return found[0].strip() if len(found) == 1 else b""


def trace_of(event_id: str, traceparent: bytes, share: float) -> Trace | None:
    """Return the trace of an event, None if it is not to be recorded.

    What the sender has decided counts (the flag `sampled`); where it says nothing, `share` of all events are
    recorded, chosen by the lower half of the trace's id.
    """
    match = _FORM.fullmatch(traceparent)
    if match is not None:
        version, trace, span, flags, more = match.groups()
        if trace != _ZERO_TRACE and span != _ZERO_SPAN and not (version == b"00" and more):
            return Trace(int(trace, 16), int(span, 16)) if int(flags, 16) & _SAMPLED else None
    trace_id = _number(f"trace {event_id}", 16)
    return Trace(trace_id, 0) if trace_id % _WHOLE < share * _WHOLE else None


def span_id(event_id: str, attempt: int, hop: Hop) -> int:
    """Return the id of a hop's span; the ingress has one for all attempts."""
    return _number(f"{hop} {0 if hop == 'ingress' else attempt} {event_id}", 8)


def _number(text: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big") or 1
