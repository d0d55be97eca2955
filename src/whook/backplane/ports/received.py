"""A received webhook and what became of each attempt to hand it over: the records that are stored.

Made by the conductor; kept by the queue while an event waits, and by the history afterwards. Plain records:
nothing here does I/O, and nothing decides.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Headers = list[tuple[bytes, bytes]]
"""Name and value as on the wire: case, order and duplicates kept."""

Origin = Literal["live", "buffered", "replay"]
"""Why a delivery was made: while the sender waited, out of the queue, or because somebody asked for it."""
State = Literal["answered", "buffered", "dead", "refused"]
"""Where an event stands after its last delivery: the local server answered (whatever status), it waits in the
queue, its retries are used up, or the sender was told that it was not taken."""


class StoredEvent(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """One webhook, byte for byte as it was received.

    Encoded as an array, to which fields are only ever added at the end, with a default.
    """

    id: str
    """``evt_…``; stable over all of its deliveries."""
    project_id: str
    project: str
    """The project's name when it was received."""
    received_at: float
    """Seconds since the epoch."""
    peer: str
    """Address of whoever was connected: the sender, or a load balancer."""
    trusted: bool
    """The peer was a trusted proxy, so its X-Forwarded-* fields are believed at every delivery."""
    scheme: str
    """``http`` or ``https``: how senders reach the ingress."""
    version: bytes
    """``1.1`` or ``1.0``."""
    method: bytes
    target: bytes
    """The request target for the local server: as sent, but for the prefix of path routing."""
    headers: Headers
    """As sent, hop-by-hop fields included."""
    body_size: int
    """Bytes of the body."""
    body: bytes | None
    """None where it is too large to be stored here: it is in the blob place, by the event's id, or was not
    kept at all."""
    trailers: Headers = []


class StoredResponse(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """What the local server answered, byte for byte."""

    status: int
    reason: bytes
    headers: Headers
    body_size: int
    body: bytes | None
    """None where it was too large to be kept."""
    trailers: Headers = []


class Delivery(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """One attempt to hand an event over, and its outcome."""

    event_id: str
    attempt: int
    """1 for the first. It may skip numbers where a conductor died in the middle of its deliveries."""
    origin: Origin
    began_at: float
    """Seconds since the epoch."""
    to_head: float
    """Seconds to the head of the final response; -1 when there was none."""
    duration: float
    """Seconds to the end."""
    status: int
    """Of the local server's response; 0 when there was none."""
    problem: str
    """Empty, or the slug of the problem for want of a response, such as ``tunnel-lost``."""
    response: StoredResponse | None = None
