"""What the far end sends becomes one response that every reader delimits alike, or none at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook.http1 import Body, End, Headers, RequestHead, ResponseHead, ResponseParser
from whook.wire import Response
from whook_conductor.reply import BadAnswerError, Reply


def request(method: bytes = b"GET", version: bytes = b"1.1", *, keep_alive: bool = True) -> RequestHead:
    return RequestHead(method, b"/", [], version, keep_alive, False, False, None, False, b"shop.localhost")


NAMES = st.sampled_from(
    [
        b"Content-Length",
        b"content-length",
        b"Transfer-Encoding",
        b"Connection",
        b"X-A",
        b"X A",
        b"X:",
        b"",
        b"\xff",
    ]
)
VALUES = st.sampled_from(
    [
        b"0",
        b"3",
        b"+3",
        b"3, 3",
        b"chunked",
        b"gzip, chunked",
        b"close",
        b"",
        b"a\r\nb: c",
        b"a\nb",
        b"\0",
        b"9" * 30,
    ]
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
BODIES = st.lists(st.sampled_from([b"", b"abc", b"HTTP/1.1 200 OK\r\n\r\n", b"0\r\n\r\n"]), max_size=3)
TRAILERS = st.lists(
    st.tuples(st.sampled_from([b"X-T", b"X T", b"X\r\n"]), st.sampled_from([b"1", b"a\r\n"])), max_size=1
)


@given(
    st.sampled_from([b"GET", b"HEAD", b"POST"]),
    st.sampled_from([200, 204, 304, 404, 599]),
    st.sampled_from([b"OK", b"", b"a\r\nX: y"]),
    HEADERS,
    BODIES,
    TRAILERS,
)
def test_what_gets_through_is_one_response(
    method: bytes, status: int, reason: bytes, headers: Headers, body: list[bytes], trailers: Headers
) -> None:
    try:
        reply = Reply(request(method), Response(status, reason, headers), close=False)
        data = reply.head + b"".join(reply.body(piece) for piece in body) + reply.end(trailers)
    except BadAnswerError:
        return
    parser = ResponseParser()
    parser.expect(method)
    parser.expect(b"GET")
    follower = b"HTTP/1.1 299 Next\r\nContent-Length: 0\r\n\r\n"
    events = parser.feed(data + follower) if not reply.closes else parser.feed(data) + parser.eof()
    first = events[0]
    assert isinstance(first, ResponseHead), events
    assert first.status == status
    end = next(index for index, event in enumerate(events) if isinstance(event, End))
    assert b"".join(event.data for event in events[1:end] if isinstance(event, Body)) == b"".join(body)
    if not reply.closes:
        second = events[end + 1]
        assert isinstance(second, ResponseHead)
        assert second.status == 299, "the connection is in step for the next response"


@pytest.mark.parametrize(
    ("version", "keep_alive", "close", "headers", "said", "closes"),
    [
        (b"1.1", True, False, [(b"Content-Length", b"0")], None, False),
        (b"1.1", True, True, [(b"Content-Length", b"0")], b"close", True),
        (b"1.1", False, False, [(b"Content-Length", b"0")], b"close", True),
        (b"1.1", True, False, [], None, True),
        (b"1.0", False, False, [(b"Content-Length", b"0")], None, True),
        (b"1.0", True, False, [(b"Content-Length", b"0")], b"keep-alive", False),
        (b"1.0", True, False, [(b"Transfer-Encoding", b"chunked")], None, True),
    ],
)
def test_connection_is_said_only_where_it_must_be(
    version: bytes, keep_alive: bool, close: bool, headers: Headers, said: bytes | None, closes: bool
) -> None:
    reply = Reply(request(b"GET", version, keep_alive=keep_alive), Response(200, b"OK", headers), close=close)
    lines = reply.head.split(b"\r\n")
    assert [line for line in lines if line.startswith(b"Connection")] == (
        [b"Connection: " + said] if said else []
    )
    assert reply.closes is closes
    assert (b"Transfer-Encoding: chunked" in lines) is False
