"""Chunked bodies to bytes (RFC 9112, 7.1), strictly.

Called by the message reader alone. llhttp reads heads and trailers but does not say where in the fed bytes a
chunked message ends, and it counts neither chunk extensions nor trailers; this does both. Must never accept
what llhttp refuses (a test compares them).
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from whook.http1.events import Body, Headers, MessageError
from whook.http1.sink import Sink

# A chunk's size line with its extensions, which nobody uses: room for one signature, not for a second body.
MAX_SIZE_LINE: Final = 1024
_CRLF: Final = b"\r\n"

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_EXTENSION: Final = (
    rb";" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb'|"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"))?'
)
_STRICT: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + _EXTENSION + rb")*\r\n")
# In responses also blanks after the size, as some servers pad it to a fixed width.
_PADDED: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:" + _EXTENSION + rb")*\r\n")

# Fields that a trailer section must not carry (RFC 9110, 6.5.1): whoever merges trailers into the head would
# frame or route the message anew.
_NOT_IN_TRAILERS: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


class _State(Enum):
    SIZE = 0
    DATA = 1
    GAP = 2
    TRAILERS = 3


_SIZE, _DATA, _GAP, _TRAILERS = _State.SIZE, _State.DATA, _State.GAP, _State.TRAILERS


class ChunkDecoder:
    """One chunked body. Raises MessageError with the statuses of the request role: 400, 413, 431.

    `max_body` and `max_trailers` are in bytes. `padded` allows blanks after a chunk size. After `feed`
    returned, `trailers` is None until the body is complete.
    """

    __slots__ = (
        "_left",
        "_line",
        "_max_body",
        "_room",
        "_section",
        "_size_line",
        "_state",
        "_total",
        "trailers",
    )

    def __init__(self, *, max_body: int, max_trailers: int, padded: bool) -> None:
        self._state = _SIZE
        self._line = bytearray()  # the beginning of a line whose end has not been fed yet
        self._left = 0
        self._total = 0
        self._max_body = max_body
        self._room = max_trailers
        self._section: list[bytes] = []
        self._size_line = _PADDED if padded else _STRICT
        self.trailers: Headers | None = None

    def feed(self, data: bytes, pos: int, out: Callable[[Body], None]) -> int:
        """Decode `data` from `pos`, hand body bytes to `out`, return where the next unread byte is."""
        end = len(data)
        while pos < end and self.trailers is None:
            state = self._state
            if state is _DATA:
                stop = pos + self._left
                if stop > end:
                    self._left = stop - end
                    stop = end
                else:
                    self._state = _GAP
                out(Body(data[pos:stop]))
                pos = stop
                continue
            limit = (
                MAX_SIZE_LINE if state is _SIZE else len(_CRLF) if state is _GAP else self._room + len(_CRLF)
            )
            stop = data.find(b"\n", pos, pos + limit - len(self._line)) + 1
            if not stop:
                self._line += data[pos : pos + limit - len(self._line)]
                if len(self._line) == limit:
                    raise _too_long(state)
                return end
            line = data[pos:stop]
            pos = stop
            if self._line:
                line = bytes(self._line + line)
                self._line = bytearray()
            if state is _SIZE:
                self._begin_chunk(line)
            elif state is _TRAILERS:
                self._take_trailer(line)
            elif line == _CRLF:
                self._state = _SIZE
            else:
                raise _malformed("CRLF is missing after a chunk.")
        return pos

    def _begin_chunk(self, line: bytes) -> None:
        match = self._size_line.fullmatch(line)
        if match is None:
            raise _malformed("A chunk size line is malformed.")
        size = int(match.group(1), 16)
        if not size:
            self._state = _TRAILERS
            return
        self._total += size
        if self._total > self._max_body:
            raise MessageError(413, "body-too-large", f"The body is larger than {self._max_body} bytes.")
        self._left = size
        self._state = _DATA

    def _take_trailer(self, line: bytes) -> None:
        if line == _CRLF:
            self.trailers = _parse_trailers(b"".join(self._section)) if self._section else []
            return
        if not line.endswith(_CRLF):
            raise _malformed("A trailer field is malformed.")
        self._room -= len(line)
        if self._room < 0:
            raise _too_long(_TRAILERS)
        self._section.append(line)


def _parse_trailers(section: bytes) -> Headers:
    """Return the fields of a trailer section, read by the same rules as those of a head."""
    sink = Sink()
    try:
        HttpRequestParser(sink).feed_data(b"GET / HTTP/1.1\r\n" + section + _CRLF)
    except HttpParserUpgrade:
        pass  # Upgrade and Connection among the trailers: refused below
    except HttpParserError:
        raise _malformed("A trailer field is malformed.") from None
    for name, _ in sink.fields:
        if name.lower() in _NOT_IN_TRAILERS:
            raise _malformed("A trailer field frames or routes the message.")
    return sink.fields


def _malformed(detail: str) -> MessageError:
    return MessageError(400, "bad-request", detail)


def _too_long(state: _State) -> MessageError:
    if state is _TRAILERS:
        return MessageError(431, "head-too-large", "The trailer fields are too large.")
    return _malformed(
        "A chunk size line is too long." if state is _SIZE else "CRLF is missing after a chunk."
    )
