"""Frames: how the wire cuts a byte stream into typed, numbered pieces.

A frame is a header of ten bytes and a payload:

    length (4, payload bytes) | type (1) | flags (1) | stream id (4) | payload

all integers big-endian. One message of the transport carries one or more frames; over a byte stream
they simply follow one another. Stream 0 is the link itself (HELLO, PING, GOAWAY); other ids are given
by whoever opens the stream, rising, and are never used twice on a link.

Called by the endpoint and by the relay's switch. Never interprets a payload.
"""

import struct
from typing import Final

from whook.wire.errors import ProtocolError

HELLO: Final = 1
OPEN: Final = 2
HEAD: Final = 3
DATA: Final = 4
END: Final = 5
RESET: Final = 6
CREDIT: Final = 7
GOAWAY: Final = 8
PING: Final = 9

END_STREAM: Final = 0x01  #: on OPEN, HEAD and DATA: the sender's direction of the stream ends here
ACK: Final = 0x01  #: on PING: the answer to one
WATCH: Final = 0x02  #: on OPEN: a copy for an onlooker, who must not answer

HEADER: Final = struct.Struct("!IBBI")
HEADER_SIZE: Final = HEADER.size
MAX_STREAM_ID: Final = 0xFFFF_FFFF

#: Bytes. The largest payload of one frame; an OPEN or HEAD must fit, so it bounds message heads as well.
MAX_PAYLOAD: Final = 262_144
#: Bytes. What one DATA frame carries at most, so that streams sharing a link take turns.
DATA_CHUNK: Final = 65_536
#: Bytes each side may send on a new stream, in each direction, before the receiver grants more.
INITIAL_CREDIT: Final = 262_144

PING_FRAME: Final = HEADER.pack(0, PING, 0, 0)
PONG_FRAME: Final = HEADER.pack(0, PING, ACK, 0)

_LAST_TYPE = PING
_pack = HEADER.pack
_unpack_from = HEADER.unpack_from

Frame = tuple[int, int, int, bytes]  #: type, flags, stream id, payload


def encode_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one whole frame."""
    return _pack(len(payload), kind, flags, stream) + payload


class FrameReader:
    """Cuts received bytes into frames, whatever pieces they arrive in."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    @property
    def partial(self) -> bool:
        """True while the beginning of a frame has been received, but not its end."""
        return bool(self._tail)

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes, in order.

        Raises:
            ProtocolError: an unknown frame type or a payload above `MAX_PAYLOAD`.
        """
        frames: list[Frame] = []
        at = self._finish(data, frames) if self._tail else 0
        if at < 0:
            return frames
        size = len(data)
        while size - at >= HEADER_SIZE:
            length, kind, flags, stream = _unpack_from(data, at)
            if length > MAX_PAYLOAD or not 0 < kind <= _LAST_TYPE:
                raise _wrong(length, kind)
            body = at + HEADER_SIZE
            end = body + length
            if end > size:
                break
            frames.append((kind, flags, stream, data[body:end]))
            at = end
        self._tail = data[at:]
        return frames

    def _finish(self, data: bytes, frames: list[Frame]) -> int:
        """Complete the frame whose beginning is here; return where it ends in `data`, -1 if it does not.

        Only that frame is put together, whatever follows it stays where it is.
        """
        tail = self._tail
        at = 0
        if len(tail) < HEADER_SIZE:
            at = HEADER_SIZE - len(tail)
            tail += data[:at]
            if len(tail) < HEADER_SIZE:
                self._tail = tail
                return -1
        length: int
        length, kind, flags, stream = _unpack_from(tail)
        if length > MAX_PAYLOAD or not 0 < kind <= _LAST_TYPE:
            raise _wrong(length, kind)
        end = at + HEADER_SIZE + length - len(tail)
        if end > len(data):
            self._tail = tail + data[at:]
            return -1
        frames.append((kind, flags, stream, tail[HEADER_SIZE:] + data[at:end]))
        return end


def _wrong(length: int, kind: int) -> ProtocolError:
    if length > MAX_PAYLOAD:
        return ProtocolError(f"frame payload of {length} bytes is above the limit of {MAX_PAYLOAD}")
    return ProtocolError(f"unknown frame type {kind}")
