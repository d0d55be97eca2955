"""What the response parser accepts, refuses, and where it sees responses end (RFC 9112, 6.3)."""

import pytest

from tests.support.http1_events import byte_by_byte, failure, normal, responses
from whook.http1 import Body, End, Failed, ResponseHead, ResponseParser, Upgraded

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def both(data: bytes, *methods: bytes, upgrade: bool = False) -> list[object]:
    """Feed whole and byte by byte, insist on the same events."""
    events = responses([data], *(methods or (b"GET",)), upgrade=upgrade)
    assert responses(byte_by_byte(data), *(methods or (b"GET",)), upgrade=upgrade) == events
    return events


def head_of(events: list[object]) -> ResponseHead:
    head = events[0]
    assert isinstance(head, ResponseHead)
    return head


def test_a_response_with_a_length() -> None:
    assert both(
        b"HTTP/1.1 201 So  Made \r\nset-Cookie: a=1\r\nSet-Cookie:b=2 \r\nContent-Length: 2\r\n\r\nok"
    ) == [
        ResponseHead(
            status=201,
            reason=b"So  Made ",
            headers=[(b"set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"Content-Length", b"2")],
            version=b"1.1",
            keep_alive=True,
            chunked=False,
            content_length=2,
        ),
        Body(b"ok"),
        End([]),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"HTTP/1.1 200", b""),
        (b"HTTP/1.1 200 ", b""),
        (b"HTTP/1.0 200 Tr\xe8s bien", b"Tr\xe8s bien"),
        (b"HTTP/1.1 999 X", b"X"),
    ],
)
def test_reasons(line: bytes, reason: bytes) -> None:
    assert head_of(both(line + b"\r\nContent-Length: 0\r\n\r\n")).reason == reason


def test_chunked_with_trailers_and_the_next_response() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n2\r\nab\r\n0\r\nT: 1\r\n\r\n" + OK
    events = both(data, b"GET", b"GET")
    assert events[1:3] == [Body(b"ab"), End([(b"T", b"1")])]
    assert events[4:] == [Body(b"ok"), End([])]
    assert head_of(events).chunked


def test_blanks_after_a_chunk_size_are_read() -> None:
    assert both(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2  \r\nab\r\n0 \r\n\r\n")[1:] == [
        Body(b"ab"),
        End([]),
    ]


@pytest.mark.parametrize("fields", [b"", b"Connection: keep-alive\r\n", b"Transfer-Encoding: gzip\r\n"])
def test_until_the_connection_closes(fields: bytes) -> None:
    events = both(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nab\r\n\r\ncd")
    assert events[1:] == [Body(b"ab\r\n\r\ncd"), End([])]
    assert not head_of(events).keep_alive


def test_until_the_connection_closes_without_a_byte() -> None:
    assert both(b"HTTP/1.0 200 OK\r\n\r\n")[1:] == [End([])]


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", b"200 OK"), (b"GET", b"304 Not Modified"), (b"GET", b"204 No Content")]
)
@pytest.mark.parametrize("field", [b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_responses_without_a_body(method: bytes, status: bytes, field: bytes) -> None:
    events = both(b"HTTP/1.1 " + status + b"\r\n" + field + b"\r\n" + OK, method, b"GET")
    assert [type(e) for e in events] == [ResponseHead, End, ResponseHead, Body, End]
    head = head_of(events)
    assert head.keep_alive
    assert head.content_length == (2 if b"Length" in field else None)
    assert head.chunked is (b"chunked" in field)


def test_informational_responses_have_no_end() -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 3\r\n\r\n"
        + OK
    )
    events = both(data)
    assert [e.status for e in events if isinstance(e, ResponseHead)] == [100, 103, 200]
    assert [type(e) for e in events] == [ResponseHead] * 3 + [Body, End]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\n",
    ],
)
def test_upgrade(head: bytes) -> None:
    assert both(b"HTTP/1.1 100 Continue\r\n\r\n" + head + b"raw", upgrade=True)[2:] == [Upgraded(b"raw")]
    parser = ResponseParser()
    parser.expect(b"GET", upgrade=True)
    assert parser.feed(head)[1:] == [Upgraded(b"")]
    assert parser.feed(OK) == [Upgraded(OK)]
    assert parser.finished
    assert parser.eof() == []


def test_upgrade_that_the_server_ignores() -> None:
    parser = ResponseParser()
    parser.expect(b"GET", upgrade=True)
    parser.expect(b"GET")
    assert [type(e) for e in parser.feed(OK + OK)] == [ResponseHead, Body, End] * 2


def test_unasked_upgrade() -> None:
    data = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw"
    assert failure(both(data)) == (502, "unexpected-upgrade")


def test_upgrade_to_nothing() -> None:
    events = both(b"HTTP/1.1 101 Switching Protocols\r\n\r\nraw", upgrade=True)
    assert failure(events) == (502, "bad-response")


def test_connect_is_a_tunnel_once_it_succeeds() -> None:
    assert both(b"HTTP/1.1 200 OK\r\n\r\nraw", b"CONNECT")[1:] == [Upgraded(b"raw")]
    assert both(b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", b"CONNECT")[1:] == [Body(b"no"), End([])]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (OK, True),
        (OK.replace(b"1.1", b"1.0"), False),
        (OK.replace(b"1.1 200 OK\r\n", b"1.0 200 OK\r\nConnection: keep-alive\r\n"), True),
        (OK.replace(b"OK\r\n", b"OK\r\nConnection: x, Close\r\n"), False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    ],
)
def test_keep_alive(data: bytes, *, expected: bool) -> None:
    assert head_of(both(data)).keep_alive is expected
    parser = ResponseParser()
    parser.expect(b"GET")
    parser.feed(data)
    assert parser.finished is not expected


def test_nothing_is_read_after_a_response_that_closes() -> None:
    events = both(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n") + b"EXTRA")
    assert events[1:] == [Body(b"ok"), End([])]


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\nX: y\nContent-Length: 2\n\nok", b"ok"),
        (b"HTTP/1.1 200 OK\n\nhello\n\n", b"hello\n\n"),
        (b"HTTP/1.1 200 OK\r\nX: y\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n\nhello", b"hello"),
        (b"HTTP/1.1 200\n\nhello", b"hello"),
        (b"\n\n\r\n\nHTTP/1.1 200 OK\n\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\n\r\n", b"ok"),
    ],
)
def test_bare_lf_in_heads_is_read(data: bytes, body: bytes) -> None:
    events = both(data)
    assert events[1:] == [Body(body), End([])]
    assert head_of(events).reason in (b"OK", b"")


@pytest.mark.parametrize("body", [b"\n", b"\n\n", b"\r\n\r\n", b"\n\r\n"])
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\n"])
def test_bodies_that_look_like_the_end_of_a_head(head: bytes, body: bytes) -> None:
    for end in (b"\r\n", b"\n"):
        assert both(head + b"Content-Length: %d\r\n" % len(body) + end + body)[1:] == [Body(body), End([])]


BAD = (502, "bad-response")
REFUSED = {
    "not-http": (b"SSH-2.0-OpenSSH_9\r\n", BAD),
    "request": (b"GET / HTTP/1.1\r\n\r\n", BAD),
    "html": (b"<html>\n\n", BAD),
    "version-0.9": (OK.replace(b"1.1", b"0.9"), BAD),
    "version-2.0": (OK.replace(b"1.1", b"2.0"), BAD),
    "version-rtsp": (OK.replace(b"HTTP/1.1", b"RTSP/1.0"), BAD),
    "version-icy": (OK.replace(b"HTTP/1.1", b"ICY"), BAD),
    "status-two-digits": (OK.replace(b"200", b"99"), BAD),
    "status-four-digits": (OK.replace(b"200", b"2000"), BAD),
    "status-zero": (OK.replace(b"200", b"000"), BAD),
    "status-word": (OK.replace(b"200", b"abc"), BAD),
    "two-spaces": (OK.replace(b" 200", b"  200"), BAD),
    "lengths": (OK.replace(b"OK\r\n", b"OK\r\nContent-Length: 2\r\n"), BAD),
    "length-and-coding": (OK.replace(b"OK\r\n", b"OK\r\nTransfer-Encoding: chunked\r\n"), BAD),
    "coding-repeated": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        BAD,
    ),
    "coding-not-last": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", BAD),
    "fold": (OK.replace(b"OK\r\n", b"OK\r\nX: a\r\n b\r\n"), BAD),
    "control": (OK.replace(b"OK\r\n", b"OK\r\nX: a\x01b\r\n"), BAD),
    "bare-cr": (OK.replace(b"OK\r\n", b"OK\r\nX: a\rb\r\n"), BAD),
    "chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", BAD),
    "chunk-bare-lf": (b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n", BAD),
    "trailer-length": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
        BAD,
    ),
    "more-than-its-length": (OK + b"x", (502, "unexpected-data")),
    "second-response": (OK + OK, (502, "unexpected-data")),
    "body-of-204": (b"HTTP/1.1 204 No\r\n\r\nx", (502, "unexpected-data")),
    "truncated-head": (OK[:20], (502, "truncated-response")),
    "truncated-line": (b"H", (502, "truncated-response")),
    "truncated-body": (OK[:-1], (502, "truncated-response")),
    "truncated-chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        (502, "truncated-response"),
    ),
    "nothing": (b"", (502, "no-response")),
    "only-informational": (b"HTTP/1.1 100 Continue\r\n\r\n", (502, "no-response")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, expected = REFUSED[name]
    assert failure(both(data)) == expected


def test_events_before_an_error_are_not_lost() -> None:
    parser = ResponseParser()
    parser.expect(b"GET")
    parser.expect(b"GET")
    assert [type(e) for e in parser.feed(OK + b"bad")] == [ResponseHead, Body, End, Failed]
    assert parser.feed(OK) == []
    assert parser.eof() == []


def test_an_idle_connection() -> None:
    parser = ResponseParser()
    assert parser.eof() == []
    parser = ResponseParser()
    parser.expect(b"GET")
    parser.feed(OK)
    assert not parser.in_message
    assert parser.feed(b"\r\n") == []
    assert failure(normal(parser.feed(b"HTTP/1.1 408 Request Timeout\r\n\r\n"))) == (502, "unexpected-data")


def test_in_message() -> None:
    parser = ResponseParser()
    parser.expect(b"GET")
    assert not parser.in_message
    parser.feed(b"H")
    assert parser.head_started
    parser.feed(b"TTP/1.1 200 OK\r\n\r\n")
    assert parser.in_message
    assert not parser.head_started
    parser.eof()
    assert not parser.in_message
    assert parser.finished
