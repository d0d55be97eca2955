"""Properties of both parsers: pieces do not matter, nothing undocumented escapes, parse(encode(x)) == x.

The same in all: a corpus of messages, cut and mutated, so that the interesting states are reached.
"""

from contextlib import suppress
from typing import Any

import httptools
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.http1_events import Event, check_order, normal, pieces, requests, responses
from whook.http1 import (
    Body,
    End,
    Failed,
    RequestEvent,
    RequestHead,
    RequestParser,
    ResponseEvent,
    ResponseHead,
    ResponseParser,
    encode_chunk,
    encode_last_chunk,
    encode_request_head,
    encode_response_head,
)

REQUESTS = [
    b"POST /a?b HTTP/1.1\r\nHost: a\r\nX: y \r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n10;e=1\r\n0123456789abcdef\r\n0\r\nT: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\n\r\nGET http://a/ HTTP/1.1\r\nHost: a:80\r\nConnection: keep-alive, x\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\nT: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 204\r\n\r\n",
    b"HTTP/1.0 200 OK\nServer: x\n\nuntil the end",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw",
]
TOKENS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"\xff",
    b"\r\n\r\n",
    b"Host: b\r\n",
    b"close",
]


@st.composite
def streams(draw: st.DrawFn, corpus: list[bytes]) -> bytes:
    """Messages in a row, with a few bytes lost, added or repeated."""
    data = b"".join(draw(st.lists(st.sampled_from(corpus), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 6)))
        new = draw(st.sampled_from([b"", data[start:stop] * 2, *TOKENS]) | st.binary(max_size=3))
        data = data[:start] + new + data[stop:]
    return data


cut_places = st.lists(st.integers(0, 400), max_size=12) | st.just(list(range(400)))
small_limits = st.sampled_from([(65_536, 1_000_000), (60, 12), (120, 20)])


@given(streams(REQUESTS) | st.binary(max_size=60), cut_places, small_limits)
@example(b"\r\n" * 40, list(range(400)), (60, 12))
def test_requests_do_not_depend_on_the_pieces(data: bytes, cuts: list[int], limits: tuple[int, int]) -> None:
    def parser() -> RequestParser:
        return RequestParser(max_head=limits[0], max_body=limits[1])

    assert requests(pieces(data, cuts), parser()) == requests([data], parser())


@given(
    streams(RESPONSES) | st.binary(max_size=60),
    cut_places,
    st.lists(st.sampled_from([b"GET", b"HEAD", b"CONNECT"]), max_size=3),
    st.booleans(),
    small_limits,
)
def test_responses_do_not_depend_on_the_pieces(
    data: bytes,
    cuts: list[int],
    methods: list[bytes],
    upgrade: bool,
    limits: tuple[int, int],
) -> None:
    def run(chunks: list[bytes]) -> list[object]:
        return responses(chunks, *methods, upgrade=upgrade, parser=ResponseParser(max_head=limits[0]))

    assert run(pieces(data, cuts)) == run([data])


def check_statuses(events: list[Any], allowed: set[int]) -> None:
    for event in events:
        if isinstance(event, Failed):
            assert event.error.status in allowed
            assert event.error.__traceback__ is None


@given(streams(REQUESTS) | st.binary(max_size=80), cut_places)
def test_only_documented_request_outcomes(data: bytes, cuts: list[int]) -> None:
    parser = RequestParser(max_body=30)
    events: list[RequestEvent] = []
    for piece in pieces(data, cuts):
        events += parser.feed(piece)
    while parser.upgrade_pending:
        events += parser.refuse_upgrade()
    check_order(events)
    check_statuses(events, {400, 413, 431, 501, 505})
    assert parser.finished or not isinstance(events[-1] if events else None, Failed)


@given(streams(RESPONSES) | st.binary(max_size=80), cut_places, st.booleans())
def test_only_documented_response_outcomes(data: bytes, cuts: list[int], upgrade: bool) -> None:
    parser = ResponseParser()
    for _ in range(3):
        parser.expect(b"GET", upgrade=upgrade)
    events: list[ResponseEvent] = []
    for piece in pieces(data, cuts):
        events += parser.feed(piece)
    events += parser.eof()
    check_order(events)
    check_statuses(events, {502})
    assert parser.finished
    assert parser.feed(b"x") == [] or parser.eof() == []


class Reference:
    """What plain httptools makes of the same bytes: heads, bodies and trailers."""

    def __init__(self) -> None:
        self.messages: list[tuple[list[tuple[bytes, bytes]], bytes, list[tuple[bytes, bytes]]]] = []
        self.fields: list[tuple[bytes, bytes]] = []

    def on_message_begin(self) -> None:
        self.fields, self.head, self.body = [], [], b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.head, self.fields = self.fields, []

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.messages.append((self.head, self.body, self.fields))


@given(streams([r for r in REQUESTS if b"Upgrade" not in r]))
def test_nothing_is_accepted_that_httptools_refuses_or_reads_differently(data: bytes) -> None:
    """Our messages are the first of llhttp's, with the same ends, bodies and trailers."""
    reference = Reference()
    with suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
        httptools.HttpRequestParser(reference).feed_data(data)
    ours = []
    head: RequestHead | None = None
    body = b""
    for event in requests([data]):
        match event:
            case RequestHead():
                head, body = event, b""
            case Body(data=more):
                body = more
            case End(trailers=trailers):
                assert head is not None
                ours.append((head.headers, body, trailers))
            case _:
                pass
    assert ours == reference.messages[: len(ours)]


names = st.text(alphabet="abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=12).map(str.encode)
values = (
    st.binary(max_size=30)
    .map(lambda raw: bytes(b for b in raw if b == 9 or 32 <= b != 127))
    .map(lambda raw: raw.strip(b" \t"))
)
RESERVED = {
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
fields_of = st.lists(st.tuples(names.filter(lambda n: n.lower() not in RESERVED), values), max_size=6)
targets = st.text(alphabet="/abc%20?&=;,.~!'()*+@:[]{}|\\^<>\"`#", max_size=30).map(
    lambda t: b"/" + t.encode()
)
bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


def encode_body(parts: list[bytes], *, chunked: bool, trailers: list[tuple[bytes, bytes]]) -> bytes:
    if not chunked:
        return b"".join(parts)
    return b"".join(map(encode_chunk, parts)) + encode_last_chunk(trailers)


@given(
    st.sampled_from([b"GET", b"POST", b"M-SEARCH"]),
    targets,
    fields_of,
    bodies,
    st.booleans(),
    fields_of,
    cut_places,
)
def test_request_round_trip(
    method: bytes,
    target: bytes,
    fields: list[tuple[bytes, bytes]],
    parts: list[bytes],
    chunked: bool,
    trailers: list[tuple[bytes, bytes]],
    cuts: list[int],
) -> None:
    body = b"".join(parts)
    framing = (b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", b"%d" % len(body))
    headers = [*fields, (b"Host", b"a"), framing]
    head = encode_request_head(method, target, headers)
    data = head + encode_body(parts, chunked=chunked, trailers=trailers)
    first, *rest = requests(pieces(data * 2, cuts))
    assert isinstance(first, RequestHead)
    assert (first.method, first.target, first.headers) == (method, target, headers)
    assert encode_request_head(first.method, first.target, first.headers) == head
    expected: list[Event] = [*([Body(body)] if body else []), End(trailers if chunked else [])]
    assert rest == [*expected, first, *expected]


@given(st.integers(200, 999), values, fields_of, bodies, st.booleans(), fields_of, cut_places)
def test_response_round_trip(
    status: int,
    reason: bytes,
    fields: list[tuple[bytes, bytes]],
    parts: list[bytes],
    chunked: bool,
    trailers: list[tuple[bytes, bytes]],
    cuts: list[int],
) -> None:
    body = b"".join(parts)
    framing = (b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", b"%d" % len(body))
    head = encode_response_head(status, reason, [*fields, framing])
    bodiless = status in (204, 304)
    data = head + (b"" if bodiless else encode_body(parts, chunked=chunked, trailers=trailers))
    first, *rest = responses(pieces(data * 2, cuts), b"GET", b"GET")
    assert isinstance(first, ResponseHead)
    assert (first.status, first.reason, first.headers) == (status, reason, [*fields, framing])
    expected: list[Event] = [End([])]
    if not bodiless:
        expected = [*([Body(body)] if body else []), End(trailers if chunked else [])]
    assert rest == [*expected, first, *expected]


def test_normal_joins_only_neighbours() -> None:
    assert normal([Body(b"a"), Body(b"b"), End([]), Body(b"c")]) == [Body(b"ab"), End([]), Body(b"c")]
