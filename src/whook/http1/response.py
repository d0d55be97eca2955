"""The response role: what a local server may answer.

Called by the CLI's local client. Reads what development servers get slightly wrong where that cannot change
the meaning: bare LF in heads, blanks after a chunk size, no reason phrase, chunked in HTTP/1.0. Must never
guess where a response ends: Content-Length with Transfer-Encoding, or a repeated one, is refused here as
well.
"""

from collections import deque
from typing import Final

from httptools import HttpParserError, HttpResponseParser

from whook.http1.encode import Framing, bodiless, declared
from whook.http1.events import Body, End, Headers, MessageError, ResponseEvent, ResponseHead, Upgraded
from whook.http1.fields import select, tokens
from whook.http1.reader import DEFAULT_MAX_HEAD, MessageReader, State
from whook.http1.sink import HeadParser, Sink

_VERSIONS: Final = {b"HTTP/1.1": b"1.1", b"HTTP/1.0": b"1.0"}
_READ: Final = frozenset({b"connection", b"content-length", b"transfer-encoding"})

# A response is streamed, so its length needs no bound; this is the largest that llhttp can count.
_UNBOUNDED: Final = 2**64


class ResponseParser(MessageReader[ResponseHead]):
    """Responses on one connection, in the order of the requests announced by `expect`.

    `max_head` bounds a head, and the trailers of a chunked body, in bytes. Events of one response: any number
    of ResponseHead with a 1xx status, then ResponseHead, any number of Body, End. After a 101 to a request
    that asked for it there is no End but Upgraded, at once and then for all further bytes. Every error has
    status 502.
    """

    __slots__ = ("_expected", "_keep_alive")

    def __init__(self, *, max_head: int = DEFAULT_MAX_HEAD) -> None:
        super().__init__(max_head=max_head, max_body=_UNBOUNDED)
        self._expected: deque[tuple[bytes, bool]] = deque()
        self._keep_alive = True

    def expect(self, method: bytes, *, upgrade: bool = False) -> None:
        """Announce a request that was sent; `upgrade` if it asked for one, so that 101 may answer it."""
        self._expected.append((method, upgrade))

    def eof(self) -> list[ResponseEvent]:
        """Take the end of the connection: it ends a close-delimited body and cuts anything else short.

        A response that was expected and did not begin fails with type `no-response`: the request may not have
        been read at all. One that began and did not end fails with `truncated-response`.
        """
        events = self._events = []
        if self._state is State.UNTIL_CLOSE:
            self._keep_alive = False
            self._finish([])
        elif self.in_message:
            self._fail(MessageError(502, "truncated-response", "The connection closed within a response."))
        elif self._state is State.HEAD and self._expected:
            self._fail(MessageError(502, "no-response", "The connection closed before a response."))
        self._state = State.CLOSED
        return events

    # -- the role's part of the machinery ----------------------------------------------------------

    _padded_chunks = True

    def _new_parser(self, sink: Sink) -> HeadParser:
        parser = HttpResponseParser(sink)
        parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)
        return parser

    def _head_stop(self, data: bytes, pos: int) -> int:
        bare = data.find(b"\n\n", pos)
        # The two may overlap: a body that begins with LF makes b"\n\n" of the last LF of a proper head.
        found = data.find(b"\n\r\n", pos, bare + 2 if bare >= 0 else len(data))
        if found >= 0:
            return found + 3
        return bare + 2 if bare >= 0 else -1

    def _refusal(self, error: HttpParserError, first: bytes) -> MessageError:  # noqa: ARG002
        return _bad(f"The response is malformed: {error}.")

    def _unfinished(self, head: bytes) -> MessageError:  # noqa: ARG002
        return _bad("The head is malformed.")

    def _translate(self, error: MessageError) -> MessageError:
        if error.status == 502:
            return error
        return MessageError(502, "bad-response" if error.type == "bad-request" else error.type, error.detail)

    def _take_head(self, data: bytes, pos: int) -> int:
        if not self._expected:
            if data[pos:].strip(b"\r\n"):
                raise MessageError(502, "unexpected-data", "Bytes came to which no request was sent.")
            return len(data)
        return super()._take_head(data, pos)

    def _begin(self, raw: bytes, fields: Headers) -> None:
        line = raw.lstrip(b"\r\n").split(b"\n", 1)[0].removesuffix(b"\r")
        protocol, _, rest = line.partition(b" ")
        digits, _, reason = rest.partition(b" ")
        version = _VERSIONS.get(protocol)
        status = int(digits)  # three digits: llhttp sees to it
        if version is None:
            raise _bad("This is not HTTP/1.1 or HTTP/1.0.")
        if status < 100:
            raise _bad("The status is below 100.")

        found = select(fields, _READ)
        options = tokens(found[b"connection"]) if b"connection" in found else []
        coding = found.get(b"transfer-encoding")
        length = int(found[b"content-length"]) if b"content-length" in found else None
        codings = tokens(coding) if coding is not None else []
        if b"chunked" in codings[:-1]:
            raise _bad("The chunked transfer coding is not the last one, or repeated.")

        method, upgrade = self._expected[0]
        chunked = codings[-1:] == [b"chunked"]
        modern = version == b"1.1"
        framing = Framing.NONE if bodiless(method, status) else declared(found) or Framing.CLOSE
        # Chunked in HTTP/1.0 is faulty framing: readable, but nothing may follow it (RFC 9112, 6.1).
        keep_alive = modern or (b"keep-alive" in options and coding is None)
        if b"close" in options or framing is Framing.CLOSE:
            keep_alive = False
        head = ResponseHead(status, reason, fields, version, keep_alive, chunked, length)
        if status < 200 and status != 101:
            self._events.append(head)
            return
        self._expected.popleft()
        self._keep_alive = keep_alive
        if status == 101 and not upgrade:
            raise MessageError(502, "unexpected-upgrade", "101 answers a request that asked for no upgrade.")
        self._events.append(head)
        if status == 101 or (method == b"CONNECT" and status < 300):
            self._events.append(Upgraded(b""))
            self._state = State.RAW
        elif framing is Framing.CLOSE:
            self._state = State.UNTIL_CLOSE
        else:
            self._expect_body(
                chunked=framing is Framing.CHUNKED, length=length if framing is Framing.LENGTH else None
            )

    def _finish(self, trailers: Headers) -> None:
        self._events.append(End(trailers))
        self._state = State.HEAD if self._keep_alive else State.CLOSED

    def _take_other(self, data: bytes, pos: int) -> int:
        rest = data[pos:]
        self._events.append(Upgraded(rest) if self._state is State.RAW else Body(rest))
        return len(data)


def _bad(detail: str) -> MessageError:
    return MessageError(502, "bad-response", detail)
