"""Messages to bytes: heads from header pairs, chunks, and how a body is delimited.

Called by the ingress for responses and by the CLI's local client for requests. Adds, drops and reorders
nothing; it must never let a value break out of its line.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

from whook.http1.events import Headers
from whook.http1.fields import select, tokens

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class Framing(Enum):
    """How the body after a head is delimited (RFC 9112, 6.3)."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


def request_framing(headers: Headers) -> Framing:
    """Say how the body of a request with these fields is delimited; never CLOSE (RFC 9112, 6.3).

    Raises ValueError for a Transfer-Encoding that does not end in `chunked`.
    """
    framing = declared(select(headers, _FRAMING))
    if framing is Framing.CLOSE:
        raise ValueError("Transfer-Encoding of a request must end in chunked")
    return framing or Framing.NONE


def response_framing(method: bytes, status: int, headers: Headers) -> Framing:
    """Say how the body of a response to `method` is delimited (RFC 9112, 6.3).

    NONE also for what has no body whatever its fields say: HEAD, 1xx, 204, 304 and a 2xx to CONNECT.
    """
    if bodiless(method, status):
        return Framing.NONE
    return declared(select(headers, _FRAMING)) or Framing.CLOSE


def bodiless(method: bytes, status: int) -> bool:
    """Say whether a response has no body whatever its fields say (RFC 9112, 6.3)."""
    return (
        method == b"HEAD" or status < 200 or status in (204, 304) or (method == b"CONNECT" and status < 300)
    )


def declared(found: Mapping[bytes, bytes]) -> Framing | None:
    """Return what the selected fields say: Transfer-Encoding before Content-Length (RFC 9112, 6.3)."""
    coding = found.get(b"transfer-encoding")
    if coding is not None:
        return Framing.CHUNKED if tokens(coding)[-1:] == [b"chunked"] else Framing.CLOSE
    return Framing.LENGTH if b"content-length" in found else None


def encode_request_head(
    method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], version: bytes = b"1.1"
) -> bytes:
    """Return request line and fields, as they are (RFC 9112, 3).

    Raises ValueError if a part would end its line or its field, or is missing.
    """
    line = b"%b %b HTTP/%b" % (method, target, version)
    if not method or not target or line.count(b" ") != 2:
        raise ValueError("method and target must be non-empty and without spaces")
    return _encode(line, headers)


def encode_response_head(status: int, reason: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return status line and fields, as they are, always as HTTP/1.1 (RFC 9112, 4; RFC 9110, 2.5).

    Raises ValueError if a part would end its line or its field, or the status is not of three digits.
    """
    if not 100 <= status <= 999:
        raise ValueError("status must have three digits")
    return _encode(b"HTTP/1.1 %d %b" % (status, reason), headers)


def _encode(line: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    lines = [line]
    for name, value in headers:
        # Inlined concatenation: this is the hot path, and `%` formatting takes twice as long.
        lines.append(name + b": " + value)
    lines.append(b"\r\n")
    head = b"\r\n".join(lines)
    # Counting what must be there finds what must not be, in one pass for each byte instead of one per field.
    ends = len(lines)
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise ValueError("CR, LF or NUL inside a start line or header field")
    return head


def encode_chunk(data: bytes) -> bytes:
    """Return one chunk (RFC 9112, 7.1); nothing for no data, because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def encode_last_chunk(trailers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """Return the end of a chunked body, with its trailers (RFC 9112, 7.1.2).

    Raises ValueError as the heads do.
    """
    return _encode(b"0", trailers) if trailers else b"0\r\n\r\n"
