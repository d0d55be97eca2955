"""The request role: what a sender may ask, and everything about a request that is refused.

Called by the conductor's ingress. llhttp refuses most broken syntax itself; this adds what it lets through: a
missing, repeated, malformed or contradicted Host, Transfer-Encoding in HTTP/1.0 or other than chunked,
versions that we do not speak, RTSP, CONNECT. Must never be lenient: two parties that read one request
differently are what request smuggling is made of.
"""

import re
from typing import Final

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpRequestParser

from whook.http1.events import End, Headers, MessageError, RequestEvent, RequestHead, Upgraded
from whook.http1.fields import select, tokens
from whook.http1.host import parse_host
from whook.http1.reader import DEFAULT_MAX_HEAD, MessageReader, State
from whook.http1.sink import HeadParser, Sink

DEFAULT_MAX_BODY: Final = 104_857_600

_VERSIONS: Final = {b"HTTP/1.1": b"1.1", b"HTTP/1.0": b"1.0"}
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_READ: Final = frozenset(
    {b"connection", b"content-length", b"expect", b"host", b"transfer-encoding", b"upgrade"}
)
_ABSOLUTE: Final = re.compile(rb"(https?)://([^/?#]*)", re.IGNORECASE)
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}

# llhttp's own words, because it has no error class for them.
_UNKNOWN_VERSION: Final = "Invalid HTTP version"
_UNKNOWN_METHOD: Final = "Invalid method for HTTP/x.x request"


class RequestParser(MessageReader[RequestHead]):
    """Requests from one connection.

    `max_head` bounds a head, and the trailers of a chunked body, in bytes (431); `max_body` bounds a body
    (413). Events of one request: RequestHead, any number of Body, End.

    An upgrade request (`RequestHead.upgrade`) stops the parser at its End: whether the bytes behind it are
    the new protocol's or the next request's depends on the answer. Until the caller knows it,
    `upgrade_pending` is true and bytes that are fed are held, at most `max_head` of them. Then it calls
    `accept_upgrade` after a 101, or `refuse_upgrade` after any other final response.
    """

    __slots__ = ("_held", "_keep_alive", "_upgrade")

    def __init__(self, *, max_head: int = DEFAULT_MAX_HEAD, max_body: int = DEFAULT_MAX_BODY) -> None:
        super().__init__(max_head=max_head, max_body=max_body)
        self._keep_alive = True
        self._upgrade = False
        self._held = bytearray()

    @property
    def upgrade_pending(self) -> bool:
        """Whether an upgrade request has ended and its answer has not been told to this parser."""
        return self._state is State.HELD

    def accept_upgrade(self) -> bytes:
        """Hand over the connection after a 101: returns the bytes held since the request's End, maybe none.

        Bytes fed from now on come back as Upgraded. Raises RuntimeError if no upgrade is pending.
        """
        held = self._release()
        self._state = State.RAW
        return held

    def refuse_upgrade(self) -> list[RequestEvent]:
        """Go on with HTTP after any final answer but 101: returns the events of the bytes held since.

        Raises RuntimeError if no upgrade is pending.
        """
        held = self._release()
        self._next_message()
        return self.feed(held)

    def _release(self) -> bytes:
        if self._state is not State.HELD:
            raise RuntimeError("no upgrade is pending")
        held, self._held = bytes(self._held), bytearray()
        return held

    # -- the role's part of the machinery ----------------------------------------------------------

    def _new_parser(self, sink: Sink) -> HeadParser:
        return HttpRequestParser(sink)

    def _head_stop(self, data: bytes, pos: int) -> int:
        found = data.find(b"\r\n\r\n", pos)
        return found + 4 if found >= 0 else -1

    def _refusal(self, error: HttpParserError, first: bytes) -> MessageError:
        reason = str(error)
        # What begins like a word is taken for a method that llhttp does not have; TLS or noise is malformed.
        if reason == _UNKNOWN_METHOD or (isinstance(error, HttpParserInvalidMethodError) and first.isalpha()):
            return MessageError(501, "method-not-implemented", "The method is not implemented.")
        if reason == _UNKNOWN_VERSION:
            return _version_not_supported()
        return _bad(f"The request is malformed: {reason}.")

    def _unfinished(self, head: bytes) -> MessageError:
        # HTTP/2's preface goes on behind an empty line (RFC 9113, 3.4).
        return _version_not_supported() if head.startswith(b"PRI ") else _bad("The head is malformed.")

    def _begin(self, raw: bytes, fields: Headers) -> None:
        try:
            method, target, protocol = raw.lstrip(b"\r\n").split(b"\r\n", 1)[0].split(b" ")
        except ValueError:
            raise _bad("The request line is not of three parts with one space between them.") from None
        version = _VERSIONS.get(protocol)
        if version is None:
            raise _version_not_supported() if _VERSION.fullmatch(protocol) else _bad("This is not HTTP.")
        if method == b"CONNECT":
            raise MessageError(501, "method-not-implemented", "CONNECT is not implemented.")

        found = select(fields, _READ)
        modern = version == b"1.1"
        host = _checked_host(found.get(b"host"), target, method, required=modern)
        coding = found.get(b"transfer-encoding")
        length: int | None = None
        if coding is not None:
            if not modern:
                raise _bad("Transfer-Encoding is not part of HTTP/1.0.")
            if coding.lower() != b"chunked":
                raise MessageError(
                    501, "coding-not-implemented", "A transfer coding other than chunked is not implemented."
                )
        elif b"content-length" in found:
            length = int(found[b"content-length"])  # llhttp sees to it that it is one number
            if length > self._max_body:
                raise MessageError(413, "body-too-large", f"The body is larger than {self._max_body} bytes.")
        chunked = coding is not None
        keep_alive = modern
        upgrade = expect_continue = False
        if b"connection" in found:
            options = tokens(found[b"connection"])
            keep_alive = b"close" not in options and (modern or b"keep-alive" in options)
            # Not in HTTP/1.0, whatever it says (RFC 9110, 7.8).
            upgrade = modern and b"upgrade" in options and bool(found.get(b"upgrade"))
        if b"expect" in found:
            expects = b"100-continue" in tokens(found[b"expect"])
            expect_continue = expects and modern and (chunked or bool(length))
        self._keep_alive = keep_alive
        self._upgrade = upgrade
        self._events.append(
            RequestHead(
                method,
                target,
                fields,
                version,
                keep_alive,
                upgrade,
                chunked,
                length,
                expect_continue,
                host,
            )
        )
        self._expect_body(chunked=chunked, length=length)

    def _finish(self, trailers: Headers) -> None:
        self._events.append(End(trailers))
        if self._upgrade:
            self._state = State.HELD
        else:
            self._next_message()

    def _next_message(self) -> None:
        # What comes after a request that closes is not read (RFC 9112, 9.6).
        self._state = State.HEAD if self._keep_alive else State.CLOSED

    def _take_other(self, data: bytes, pos: int) -> int:
        if self._state is State.RAW:
            self._events.append(Upgraded(data[pos:]))
            return len(data)
        self._held += data[pos:]
        if len(self._held) > self._max_head:
            self._held = bytearray()
            raise _bad("Too many bytes came before the upgrade was answered.")
        return len(data)


def _checked_host(host: bytes | None, target: bytes, method: bytes, *, required: bool) -> bytes:
    """Check Host against the target (RFC 9112, 3.2); return the host, empty if HTTP/1.0 named none."""
    if host is None and required:
        raise _bad_host("The Host field is missing.")
    # A repeated Host comes as a list here, and a list is not a host.
    named = parse_host(host) if host is not None else None
    if target.startswith(b"/"):
        return host or b""
    if target == b"*":
        if method != b"OPTIONS":
            raise _bad("The target * is for OPTIONS only.")
        return host or b""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        raise _bad("The target is neither a path nor an http or https URL.")
    scheme, authority = absolute.groups()
    default = _DEFAULT_PORTS[scheme.lower()]
    name, port = parse_host(authority)
    if named is None:
        return authority
    if named[0] != name or (named[1] or default) != (port or default):
        raise _bad_host("The Host field contradicts the target.")
    return host or b""


def _bad(detail: str) -> MessageError:
    return MessageError(400, "bad-request", detail)


def _bad_host(detail: str) -> MessageError:
    return MessageError(400, "bad-host", detail)


def _version_not_supported() -> MessageError:
    return MessageError(505, "version-not-supported", "Only HTTP/1.1 and HTTP/1.0 are supported.")
