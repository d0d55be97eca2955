"""How a response from the far end is put on the sender's connection: head, framing, end.

Owns the last check before bytes reach a stranger: the far end belongs to a tenant, and the connection in
front of us may be shared by a load balancer between tenants, so a response must never run past its own end
or smuggle in another (RFC 9112 sections 6.3 and 11.2). Called by the ingress for each final or informational
head. Pure: it builds bytes and does no I/O.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from whook.http1 import (
    Framing,
    Headers,
    RequestHead,
    encode_chunk,
    encode_last_chunk,
    encode_response_head,
    hop_by_hop,
    response_framing,
)
from whook.wire import Response

_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_MAX_DIGITS: Final = 18
"""Digits of the longest Content-Length: more than any body, less than the integers of whoever reads it
next."""
_MAX_KNOWN: Final = 1_024
_known_names: set[bytes] = set()
"""Field names that were found to be tokens; real traffic has a few dozen, strangers cannot grow it far."""


class BadAnswerError(Exception):
    """The far end sent something that cannot be passed on as HTTP."""


class Reply:
    """One final response on its way to the sender.

    `head` is its first bytes; `closes` says that the connection cannot be used again after it.
    """

    __slots__ = ("_framing", "_left", "closes", "head")

    def __init__(self, request: RequestHead, response: Response, *, close: bool) -> None:
        """Decide the framing and build the head; `close` ends the connection afterwards in any case.

        Raises `BadAnswerError` when the head cannot be passed on.
        """
        # A 426 must say what to upgrade to (RFC 9110 section 15.5.22), and upgrades pass through here.
        headers = hop_by_hop(response.headers, upgrade=response.status == HTTPStatus.UPGRADE_REQUIRED)
        # What the fields say is checked also where no body follows: the next reader may judge them too.
        framing = response_framing(b"GET", 200, headers)
        self._left = 0
        if framing is Framing.LENGTH:
            self._left = _single_length(headers)
        elif codings := _fields(headers, b"transfer-encoding"):
            if framing is Framing.CLOSE or len(codings) != 1 or _fields(headers, b"content-length"):
                raise BadAnswerError("Transfer-Encoding is repeated, not chunked, or beside Content-Length")
            if request.version == b"1.0":
                # RFC 9112 section 6.1: never sent to a 1.0 recipient, whose only other end of a body is the
                # end of the connection.
                headers = [pair for pair in headers if pair[0].lower() != b"transfer-encoding"]
                framing = Framing.CLOSE
        if response_framing(request.method, response.status, []) is Framing.NONE:
            framing = Framing.NONE
            self._left = 0
        self.closes = close or framing is Framing.CLOSE or not request.keep_alive
        if framing is not Framing.CLOSE:
            if self.closes and request.version != b"1.0":
                headers.append((b"Connection", b"close"))
            elif not self.closes and request.version == b"1.0":
                headers.append((b"Connection", b"keep-alive"))
        self._framing = framing
        self.head = _checked_head(response.status, response.reason, headers)

    def body(self, data: bytes) -> bytes:
        """Return `data` framed. Raises `BadAnswerError` for more than was announced."""
        framing = self._framing
        if framing is Framing.LENGTH:
            self._left -= len(data)
            if self._left < 0:
                raise BadAnswerError("more body than Content-Length")
            return data
        if framing is Framing.CHUNKED:
            return encode_chunk(data)
        if framing is Framing.NONE:
            if data:
                raise BadAnswerError("a body where there is none")
            return b""
        return data

    def end(self, trailers: Headers) -> bytes:
        """Return what ends the body. Raises `BadAnswerError` for less than was announced."""
        if self._framing is Framing.CHUNKED:
            for name, _ in trailers:
                _check_name(name)
            try:
                return encode_last_chunk(trailers)
            except ValueError as error:
                raise BadAnswerError(f"{error}") from None
        if self._left:
            raise BadAnswerError("less body than Content-Length")
        return b""


def interim_head(response: Response) -> bytes:
    """Return an informational head (1xx other than 101). Raises `BadAnswerError` when it is malformed."""
    return _checked_head(response.status, response.reason, hop_by_hop(response.headers, upgrade=False))


def upgrade_head(response: Response) -> bytes:
    """Return the head of a 101. Raises `BadAnswerError` when it is malformed."""
    return _checked_head(101, response.reason, hop_by_hop(response.headers, upgrade=True))


def _fields(headers: Headers, lower: bytes) -> list[bytes]:
    size = len(lower)
    return [value for name, value in headers if len(name) == size and name.lower() == lower]


def _single_length(headers: Headers) -> int:
    lengths = _fields(headers, b"content-length")
    if len(lengths) != 1 or not lengths[0].isdigit() or len(lengths[0]) > _MAX_DIGITS:
        raise BadAnswerError("Content-Length is repeated or no number")
    return int(lengths[0])


def _checked_head(status: int, reason: bytes, headers: Headers) -> bytes:
    for name, _ in headers:
        if name not in _known_names:
            _check_name(name)
    try:
        return encode_response_head(status, reason, headers)
    except ValueError as error:
        raise BadAnswerError(f"{error}") from None


def _check_name(name: bytes) -> None:
    if not name or not _TOKEN.issuperset(name):
        raise BadAnswerError("a field name that is no token")
    if len(_known_names) < _MAX_KNOWN and len(name) <= 64:
        _known_names.add(name)
