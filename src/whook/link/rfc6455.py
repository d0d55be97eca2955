"""The server's half of WebSocket framing (RFC 6455), sans-IO: what a client sends, and what it is sent.

Used by `whook.link.acceptor` alone. The wire inside does not need the boundaries of messages, so payload is
handed on as it comes and no message is ever gathered. Strict, as section 5 asks of a server: what a client
may not send ends the connection with the code that section 7.4.1 has for it.
"""

from base64 import b64encode
from hashlib import sha1
from struct import Struct
from typing import Final

BINARY: Final = 0x2
CLOSE: Final = 0x8
PONG: Final = 0xA
_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_PING: Final = 0x9

#: Status codes, section 7.4.1.
NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED: Final = 1003
INVALID: Final = 1007
TOO_BIG: Final = 1009
NO_STATUS: Final = 1005  #: never sent: the close frame had none

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FIN: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_CONTROL: Final = 0x8  #: set in the opcodes of control frames
_MAX_CONTROL: Final = 125  #: bytes of a control frame's payload, section 5.5
_SHORT: Final = 126  #: lengths from here on have two bytes of their own, those that do not fit them eight
_MEDIUM: Final = 65_536
_MASK: Final = 4
_SENT_CODES: Final = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
_PRIVATE_CODES: Final = range(3000, 5000)
#: Bytes from which on a look-up table beats arithmetic on long numbers (twice as fast at 64 KiB).
_LARGE: Final = 1_024
_XOR: Final = tuple(bytes(value ^ key for value in range(256)) for key in range(256))

_medium = Struct(">BBH").pack
_long = Struct(">BBQ").pack


class Violation(Exception):
    """The client broke the protocol. `code` is what the close frame tells it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def accept_key(key: bytes) -> bytes:
    """Return Sec-WebSocket-Accept for a client's Sec-WebSocket-Key (section 4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """Return one whole frame of a server, which masks nothing (section 5.1)."""
    return encode_head(opcode, len(payload)) + payload


def encode_head(opcode: int, size: int) -> bytes:
    """Return what stands in front of a payload of `size` bytes in such a frame."""
    if size < _SHORT:
        return bytes((_FIN | opcode, size))
    if size < _MEDIUM:
        return _medium(_FIN | opcode, _SHORT, size)
    return _long(_FIN | opcode, _SHORT + 1, size)


def encode_close(code: int, reason: str = "") -> bytes:
    """Return a close frame; the reason is cut to what fits."""
    text = reason.encode()[: _MAX_CONTROL - 2].decode(errors="ignore")
    return encode_frame(CLOSE, code.to_bytes(2, "big") + text.encode())


class ClientFrames:
    """Takes apart what a client sends.

    Attributes:
        reply: frames to send back; whoever sends them empties it.
        closed: code and reason of the client's close frame, once it has come. Nothing after it is read.
    """

    __slots__ = ("_fragmented", "_held", "_key", "_left", "_max_message", "_message", "closed", "reply")

    def __init__(self, max_message: int) -> None:
        """`max_message` bounds a message, whatever the number of its frames, in bytes."""
        self._max_message = max_message
        self._held = b""  #: the beginning of a frame's head, or of a control frame
        self._left = 0  #: bytes of the data frame's payload that are still to come
        self._key = b""  #: its mask, turned to where the payload stands
        self._message = 0  #: bytes announced of the message so far
        self._fragmented = False
        self.reply = b""
        self.closed: tuple[int, str] | None = None

    def feed(self, data: bytes) -> bytes:
        """Take what was received and return the payload of binary messages in it, b"" where there is none.

        Raises `Violation`; the caller closes the connection then.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        found: list[bytes] = []
        at, size = 0, len(data)
        while at < size and self.closed is None:
            if self._left:
                at = self._take_payload(data, at, found)
                continue
            end = self._take_head(data, at)
            if end < 0:
                self._held = data[at:]
                break
            at = end
        return found[0] if len(found) == 1 else b"".join(found)

    def _take_payload(self, data: bytes, at: int, found: list[bytes]) -> int:
        end = min(at + self._left, len(data))
        found.append(_unmask(data[at:end], self._key))
        self._left -= end - at
        if self._left:
            turn = (end - at) % _MASK
            self._key = self._key[turn:] + self._key[:turn]
        return end

    def _take_head(self, data: bytes, at: int) -> int:
        """Take a frame's head, and a control frame whole; return where it ends, -1 when not all is there."""
        if len(data) - at < 2:
            return -1
        first, second = data[at], data[at + 1]
        self._check(first, second)
        length = second & ~_MASKED
        at += 2
        if length >= _SHORT:
            width = 2 if length == _SHORT else 8
            if len(data) - at < width:
                return -1
            length = int.from_bytes(data[at : at + width], "big")
            if length < (_SHORT if width == 2 else _MEDIUM):
                raise Violation(PROTOCOL_ERROR, "a length is written with more bytes than it needs")
            at += width
        control = first & _CONTROL
        message = length if first & 0xF == BINARY else self._message + length
        if not control and message > self._max_message:
            raise Violation(TOO_BIG, f"a message is longer than {self._max_message} bytes")
        if len(data) - at < _MASK + (length if control else 0):
            return -1
        key = data[at : at + _MASK]
        at += _MASK
        if control:
            self._control(first & 0xF, _unmask(data[at : at + length], key))
            return at + length
        self._fragmented = not first & _FIN
        self._message, self._left, self._key = message, length, key
        return at

    def _check(self, first: int, second: int) -> None:
        opcode = first & 0xF
        if first & _RESERVED:
            raise Violation(PROTOCOL_ERROR, "a reserved bit is set, and no extension was agreed on")
        if not second & _MASKED:
            raise Violation(PROTOCOL_ERROR, "a client's frame is not masked")
        if opcode & _CONTROL:
            if opcode > PONG:
                raise Violation(PROTOCOL_ERROR, f"unknown opcode {opcode}")
            if not first & _FIN or second & ~_MASKED > _MAX_CONTROL:
                raise Violation(PROTOCOL_ERROR, "a control frame is fragmented or too long")
        elif opcode == _TEXT:
            raise Violation(UNSUPPORTED, "the peer sent a text message; the wire is binary")
        elif opcode > BINARY:
            raise Violation(PROTOCOL_ERROR, f"unknown opcode {opcode}")
        elif self._fragmented != (opcode == _CONTINUATION):
            raise Violation(PROTOCOL_ERROR, "a message's fragments are out of order")

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self.reply = encode_frame(PONG, payload)  # section 5.5.3: the latest is enough
        elif opcode == CLOSE:
            self.closed = _closing(payload)
            code = self.closed[0]
            self.reply = encode_close(code) if code != NO_STATUS else encode_frame(CLOSE, b"")


def _closing(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a close frame (section 5.5.1)."""
    if not payload:
        return NO_STATUS, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or (code not in _SENT_CODES and code not in _PRIVATE_CODES):
        raise Violation(PROTOCOL_ERROR, "a close frame has no code that may be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(INVALID, "a close frame's reason is not UTF-8") from None


def _unmask(data: bytes, key: bytes) -> bytes:
    """Return `data` with each byte combined with one of the four of `key` (section 5.3)."""
    size = len(data)
    if size < _LARGE:
        keys = int.from_bytes((key * (size // _MASK + 1))[:size], "little")
        return (int.from_bytes(data, "little") ^ keys).to_bytes(size, "little")
    out = bytearray(data)
    for offset, value in enumerate(key):
        out[offset::_MASK] = out[offset::_MASK].translate(_XOR[value])
    return bytes(out)
