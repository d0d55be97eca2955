"""What the request parser accepts, and what it makes of it."""

import pytest

from tests.support.http1_events import byte_by_byte, requests
from whook.http1 import Body, End, Failed, RequestHead, RequestParser

POST = (
    b"POST /hook?b=2&a=%20+1 HTTP/1.1\r\nhOsT: Demo.localhost:8080\r\nX-A: 1\r\nx-a:2 \r\nX-A: \t3\t \r\n"
    b"Content-Length: 5\r\n\r\nhello"
)


def one(data: bytes) -> RequestHead:
    head, *rest = requests([data])
    assert isinstance(head, RequestHead)
    assert requests(byte_by_byte(data)) == [head, *rest]
    return head


def get(*fields: bytes, version: bytes = b"1.1") -> RequestHead:
    return one(
        b"GET / HTTP/" + version + b"\r\n" + b"".join(f + b"\r\n" for f in (b"Host: a", *fields)) + b"\r\n"
    )


def test_a_small_post_in_one_feed() -> None:
    parser = RequestParser()
    head, body, end = parser.feed(POST)
    assert head == RequestHead(
        method=b"POST",
        target=b"/hook?b=2&a=%20+1",
        headers=[
            (b"hOsT", b"Demo.localhost:8080"),
            (b"X-A", b"1"),
            (b"x-a", b"2"),
            (b"X-A", b"3"),
            (b"Content-Length", b"5"),
        ],
        version=b"1.1",
        keep_alive=True,
        upgrade=False,
        chunked=False,
        content_length=5,
        expect_continue=False,
        host=b"Demo.localhost:8080",
    )
    assert (body, end) == (Body(b"hello"), End([]))
    assert not parser.in_message
    assert not parser.finished


def test_byte_by_byte_is_the_same() -> None:
    assert requests(byte_by_byte(POST)) == requests([POST])


def test_body_bytes_are_reported_as_they_come() -> None:
    parser = RequestParser()
    assert [type(e) for e in parser.feed(POST[:-3])] == [RequestHead, Body]
    assert parser.feed(b"l") == [Body(b"l")]
    assert parser.feed(b"lo") == [Body(b"lo"), End([])]


@pytest.mark.parametrize("length", [b"", b"Content-Length: 0\r\n"])
def test_end_comes_without_a_body(length: bytes) -> None:
    events = requests([b"GET / HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n"])
    assert [type(e) for e in events] == [RequestHead, End]


@pytest.mark.parametrize(
    "method",
    [
        b"GET",
        b"HEAD",
        b"POST",
        b"PUT",
        b"DELETE",
        b"PATCH",
        b"OPTIONS",
        b"TRACE",
        b"PURGE",
        b"PROPFIND",
        b"QUERY",
    ],
)
def test_methods(method: bytes) -> None:
    assert one(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n").method == method


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//double//slash",
        b"/a/../b/./c",
        b"/%2e%2E/%zz?%",
        b"/?",
        b"/a?b?c=d&&e",
        b"/a;p=1,2",
        b"/a#fragment",
        b'/|\\^`{}<>"',
        b"http://a/b?c",
        b"HTTP://A:80/b",
        b"http://a.:80",
    ],
)
def test_target_is_kept_byte_for_byte(target: bytes) -> None:
    assert one(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n").target == target


def test_asterisk_is_for_options() -> None:
    assert one(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").target == b"*"


@pytest.mark.parametrize(
    "value", [b"", b"a  b", b"\xff\x80 caf\xc3\xa9", b"a\tb", b"a: b: c", b'"q"', b"a,b", b"x" * 60_000]
)
def test_values_are_kept(value: bytes) -> None:
    head = get(b"X: \t " + value + b" \t")
    assert head.headers == [(b"Host", b"a"), (b"X", value)]


def test_header_names_keep_case_order_and_duplicates() -> None:
    fields = [(b"Host", b"a"), (b"!#$%&'*+-.^_`|~09aZ", b"1"), (b"SET", b"1"), (b"set", b"2"), (b"SET", b"1")]
    assert get(*(n + b": " + v for n, v in fields[1:])).headers == fields


@pytest.mark.parametrize(
    ("version", "fields", "expected"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: close"], False),
        (b"1.1", [b"Connection: x , CLOSE"], False),
        (b"1.1", [b"Connection: keep-alive", b"connection: close"], False),
        (b"1.1", [b"Connection: closed"], True),
        (b"1.1", [b"Connection:"], True),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: Keep-Alive"], True),
        (b"1.0", [b"Connection: keep-alive, close"], False),
    ],
)
def test_keep_alive(version: bytes, fields: list[bytes], *, expected: bool) -> None:
    assert get(*fields, version=version).keep_alive is expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", True),
        (b"HTTP/1.1\r\nHost: a\r\nexpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", True),
        (b"HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", False),
        (b"HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 3\r\n\r\nabc", False),
        (b"HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", False),
    ],
)
def test_expect_continue(head: bytes, *, expected: bool) -> None:
    assert one(b"POST / " + head).expect_continue is expected


def test_http_1_0_needs_no_host() -> None:
    head = one(b"GET / HTTP/1.0\r\n\r\n")
    assert (head.version, head.host) == (b"1.0", b"")
    assert one(b"GET http://b/ HTTP/1.0\r\n\r\n").host == b"b"


def test_chunked_with_trailers() -> None:
    data = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b'3\r\nabc\r\n00A;x;y=1;z="q;\\" "\r\n0123456789\r\n'
        b"0;last\r\nT-One: 1 \r\nt-two:\r\nT-One: 2\r\n\r\n"
    )
    head, *rest = requests([data])
    assert isinstance(head, RequestHead)
    assert (head.chunked, head.content_length) == (True, None)
    assert rest == [Body(b"abc0123456789"), End([(b"T-One", b"1"), (b"t-two", b""), (b"T-One", b"2")])]
    assert requests(byte_by_byte(data)) == [head, *rest]


def test_pipelined_requests_in_one_feed() -> None:
    chunked = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nT: 1\r\n\r\n"
    get_ = b"GET /g HTTP/1.1\r\nHost: a\r\n\r\n"
    data = chunked + get_ + POST + b"\r\n" + chunked + b"\r\n\r\n" + get_
    events = requests([data])
    targets = [e.target for e in events if isinstance(e, RequestHead)]
    assert targets == [b"/c", b"/g", b"/hook?b=2&a=%20+1", b"/c", b"/g"]
    assert sum(isinstance(e, End) for e in events) == 5
    assert requests(byte_by_byte(data)) == events


def test_events_before_an_error_are_not_lost() -> None:
    parser = RequestParser()
    events = parser.feed(POST + POST + b"BAD\r\n\r\n" + POST)
    assert [type(e) for e in events] == [RequestHead, Body, End, RequestHead, Body, End, Failed]
    assert parser.finished
    assert parser.feed(POST) == []


@pytest.mark.parametrize("fields", [b"HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"HTTP/1.0\r\n\r\n"])
def test_nothing_is_read_after_the_last_request(fields: bytes) -> None:
    parser = RequestParser()
    assert [type(e) for e in parser.feed(b"GET / " + fields + POST)] == [RequestHead, End]
    assert parser.finished
    assert parser.feed(POST) == []
    assert not parser.in_message


def test_head_started_and_in_message() -> None:
    parser = RequestParser()
    states = [(parser.head_started, parser.in_message)]
    for piece in (b"\r\n", b"\r\n", b"PO", POST[2:40], POST[40:-1], POST[-1:], b"\r\n", b"G"):
        parser.feed(piece)
        states.append((parser.head_started, parser.in_message))
    no, head, body = (False, False), (True, True), (False, True)
    assert states == [no, no, no, head, head, body, no, no, head]


def test_an_empty_feed_changes_nothing() -> None:
    parser = RequestParser()
    assert parser.feed(b"") == []
    parser.feed(POST[:10])
    assert parser.feed(b"") == []
    assert len(parser.feed(POST[10:])) == 3


def test_an_interrupt_inside_a_callback_is_not_taken_for_a_bad_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("whook.http1.sink.Sink.on_header", interrupt)
    with pytest.raises(KeyboardInterrupt):
        RequestParser().feed(POST)
