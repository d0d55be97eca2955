"""Size limits: exact to the byte, however the bytes arrive."""

import pytest

from tests.support.http1_events import byte_by_byte, failure, normal, requests, responses
from whook.http1 import Body, End, RequestHead, RequestParser, ResponseHead, ResponseParser

START = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LARGE_HEAD = (431, "head-too-large")
TOO_LARGE_BODY = (413, "body-too-large")


def limited(*feeds: bytes, max_head: int = 100, max_body: int = 10) -> list[object]:
    return requests(feeds, RequestParser(max_head=max_head, max_body=max_body))


@pytest.mark.parametrize(
    "data",
    [
        START + b"X: " + b"x" * 69 + b"\r\n\r\n",
        START + b"X:" + b" " * 69 + b"x\r\n\r\n",
        b"\r\n" * 35 + START + b"\r\n",
        b"GET /" + b"x" * 73 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_head_limit_is_exact(data: bytes) -> None:
    size = len(data)
    for feeds in ([data], byte_by_byte(data)):
        assert [type(e) for e in limited(*feeds, max_head=size)] == [RequestHead, End]
        assert failure(limited(*feeds, max_head=size - 1)) == TOO_LARGE_HEAD


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 500,
        START + b"X: " + b"a" * 500,
        START + b"X" * 500,
        START + b"X:" + b" " * 500,
        START + b"X: y\r\n" * 80,
        b"\r\n" * 250,
    ],
)
def test_head_limit_holds_while_the_head_is_incomplete(data: bytes) -> None:
    assert failure(limited(data)) == TOO_LARGE_HEAD
    assert failure(limited(*byte_by_byte(data))) == TOO_LARGE_HEAD
    assert [type(e) for e in limited(data[:100])] == []


def test_every_head_has_the_whole_limit() -> None:
    events = limited((START + b"X: " + b"x" * 60 + b"\r\n\r\n") * 5)
    assert len(events) == 10


def test_a_syntax_error_within_the_limit_comes_before_the_limit() -> None:
    data = START + b"X : y\r\n" + b"x" * 500
    assert failure(limited(data)) == failure(limited(*byte_by_byte(data))) == (400, "bad-request")


def test_content_length_above_the_limit_is_refused_at_the_head() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    assert limited(head % 11)[:-1] == []
    assert failure(limited(head % 11)) == TOO_LARGE_BODY
    assert failure(limited(head % (2**64 - 1))) == TOO_LARGE_BODY
    assert limited(head % 10 + b"0123456789")[1:] == [Body(b"0123456789"), End([])]


def test_chunked_body_above_the_limit_is_refused_in_mid_stream() -> None:
    data = CHUNKED + b"6\r\nabcdef\r\n5\r\nghijk\r\n0\r\n\r\n"
    for feeds in ([data], byte_by_byte(data)):
        head, body, *rest = limited(*feeds)
        assert isinstance(head, RequestHead)
        assert body == Body(b"abcdef")
        assert failure(rest) == TOO_LARGE_BODY
    assert limited(CHUNKED + b"6\r\nabcdef\r\n4\r\nghij\r\n0\r\n\r\n")[1:] == [Body(b"abcdefghij"), End([])]


@pytest.mark.parametrize("size", [b"B", b"FFFFFFFFFFFFFFFF"])
def test_one_chunk_above_the_limit_is_refused_at_its_size(size: bytes) -> None:
    assert failure(limited(CHUNKED + size + b"\r\n")) == TOO_LARGE_BODY


@pytest.mark.parametrize("size", [99, 500])
@pytest.mark.parametrize("form", [b"X: %b\r\n\r\n", b"X: %b"])
def test_trailers_above_the_limit(size: int, form: bytes) -> None:
    data = CHUNKED + b"0\r\n" + form % (b"x" * size)
    assert failure(limited(data)) == TOO_LARGE_HEAD
    assert failure(limited(*byte_by_byte(data))) == TOO_LARGE_HEAD


def test_many_trailers_above_the_limit() -> None:
    section = b"X: 1\r\n" * 16
    assert len(section) == 96
    assert len(limited(CHUNKED + b"0\r\n" + section + b"\r\n")) == 2
    assert failure(limited(CHUNKED + b"0\r\n" + section + b"X: 1\r\n\r\n")) == TOO_LARGE_HEAD


def test_response_heads_and_trailers_are_bounded_too() -> None:
    for data in (
        b"HTTP/1.1 200 " + b"x" * 500,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 500,
    ):
        events = responses([data], b"GET", parser=ResponseParser(max_head=100))
        assert failure(events) == (502, "head-too-large")


def test_response_bodies_are_not_bounded() -> None:
    parser = ResponseParser()
    parser.expect(b"GET")
    events = parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nx")
    assert [type(e) for e in events] == [ResponseHead, Body]
    assert normal(parser.feed(b"y" * 100)) == [Body(b"y" * 100)]
