"""Heads and chunks as bytes, and how a body is delimited."""

import pytest

from whook.http1 import (
    Framing,
    Headers,
    encode_chunk,
    encode_last_chunk,
    encode_request_head,
    encode_response_head,
    request_framing,
    response_framing,
)


def test_request_head_is_byte_exact() -> None:
    fields = [(b"hOST", b"a"), (b"X", b""), (b"x", b"\xff a,b"), (b"X", b"")]
    assert encode_request_head(b"POST", b"/a?b#c", fields) == (
        b"POST /a?b#c HTTP/1.1\r\nhOST: a\r\nX: \r\nx: \xff a,b\r\nX: \r\n\r\n"
    )
    assert encode_request_head(b"GET", b"*", [], b"1.0") == b"GET * HTTP/1.0\r\n\r\n"


def test_response_head_is_byte_exact() -> None:
    assert encode_response_head(200, b"OK", [(b"A", b"b")]) == b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert encode_response_head(204, b"", []) == b"HTTP/1.1 204 \r\n\r\n"
    assert encode_response_head(599, b"Tr\xe8s  mal", []) == b"HTTP/1.1 599 Tr\xe8s  mal\r\n\r\n"


@pytest.mark.parametrize("evil", [b"\r", b"\n", b"\0", b"\r\n", b"a\r\nX: y", b"a\nb", b"\r\n\r\n"])
def test_injection_is_refused(evil: bytes) -> None:
    for fields in ([(b"X", evil)], [(evil, b"x")], [(b"A", b"b"), (b"X", b"x" + evil)]):
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            encode_request_head(b"GET", b"/", fields)
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            encode_response_head(200, b"OK", fields)
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            encode_last_chunk(fields)
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        encode_response_head(200, b"OK" + evil, [])
    for method, target, version in (
        (evil, b"/", b"1.1"),
        (b"GET", b"/" + evil, b"1.1"),
        (b"GET", b"/", evil),
    ):
        with pytest.raises(ValueError, match=r"CR, LF or NUL|without spaces"):
            encode_request_head(method, target, [], version)


@pytest.mark.parametrize(
    ("method", "target", "version"),
    [
        (b"", b"/", b"1.1"),
        (b"GET", b"", b"1.1"),
        (b"GET", b"/a b", b"1.1"),
        (b"G T", b"/", b"1.1"),
        (b"GET", b"/", b"1 1"),
    ],
)
def test_broken_request_lines_are_refused(method: bytes, target: bytes, version: bytes) -> None:
    with pytest.raises(ValueError, match="without spaces"):
        encode_request_head(method, target, [], version)


@pytest.mark.parametrize("status", [-1, 0, 99, 1000])
def test_broken_status_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="three digits"):
        encode_response_head(status, b"OK", [])


def test_chunks() -> None:
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert encode_chunk(b"") == b""
    assert encode_last_chunk() == b"0\r\n\r\n"
    assert encode_last_chunk([]) == b"0\r\n\r\n"
    assert encode_last_chunk([(b"T", b"1"), (b"t", b"")]) == b"0\r\nT: 1\r\nt: \r\n\r\n"


CHUNKED: Headers = [(b"X", b"y"), (b"TRANSFER-encoding", b"Chunked")]
LENGTH: Headers = [(b"content-LENGTH", b"0")]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Framing.NONE),
        (LENGTH, Framing.LENGTH),
        (CHUNKED, Framing.CHUNKED),
        ([*LENGTH, *CHUNKED], Framing.CHUNKED),
        ([(b"Transfer-Encoding", b"gzip"), (b"transfer-encoding", b"chunked")], Framing.CHUNKED),
    ],
)
def test_request_framing(headers: Headers, expected: Framing) -> None:
    assert request_framing(headers) is expected


def test_request_framing_refuses_what_cannot_be_framed() -> None:
    with pytest.raises(ValueError, match="chunked"):
        request_framing([(b"Transfer-Encoding", b"gzip")])


@pytest.mark.parametrize(
    ("method", "status", "headers", "expected"),
    [
        (b"GET", 200, [], Framing.CLOSE),
        (b"GET", 200, LENGTH, Framing.LENGTH),
        (b"GET", 200, CHUNKED, Framing.CHUNKED),
        (b"GET", 200, [(b"Transfer-Encoding", b"gzip")], Framing.CLOSE),
        (b"HEAD", 200, LENGTH, Framing.NONE),
        (b"HEAD", 200, [], Framing.NONE),
        (b"GET", 100, LENGTH, Framing.NONE),
        (b"GET", 101, [], Framing.NONE),
        (b"GET", 204, CHUNKED, Framing.NONE),
        (b"GET", 304, LENGTH, Framing.NONE),
        (b"CONNECT", 200, LENGTH, Framing.NONE),
        (b"CONNECT", 502, LENGTH, Framing.LENGTH),
    ],
)
def test_response_framing(method: bytes, status: int, headers: Headers, expected: Framing) -> None:
    assert response_framing(method, status, headers) is expected
