"""How an event is put into a store: encoded, counted and sealed, the same in every twin.

Called by the twins of the queue. It must never change a byte of what it was given.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from whook.backplane.ports import StoredEvent, Unavailable
from whook.chassis.sealing import Sealer, SealError

_encoder = msgspec.msgpack.Encoder()
_events = msgspec.msgpack.Decoder(StoredEvent)


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event as it is stored."""

    payload: bytes
    size: int
    """What it counts for in the limits of a queue: bytes of the encoded event, wherever its body is kept."""


def pack(event: StoredEvent, sealer: Sealer) -> Envelope:
    """Return the event as it is to be stored."""
    encoded = _encoder.encode(event)
    elsewhere = event.body_size if event.body is None else 0
    return Envelope(sealer.seal(encoded, event.id), len(encoded) + elsewhere)


def unpack(payload: bytes, event_id: str, sealer: Sealer) -> StoredEvent:
    """Return the event that was packed. Raises Unavailable while the key is missing that it was sealed with.

    The operator can give the key back, so the event is not lost.
    """
    try:
        return _events.decode(sealer.open(payload, event_id))
    except SealError as error:
        raise Unavailable(str(error)) from error
