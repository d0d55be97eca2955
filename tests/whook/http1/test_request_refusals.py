"""Everything a request is refused for, by exact bytes (RFC 9112, 11.2 and RFC 9110, 17.10 say why)."""

import pytest

from tests.support.http1_events import byte_by_byte, failure, requests
from whook.http1 import RequestHead

OK = b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = b"3\r\nabc\r\n0\r\n\r\n"


def head(*fields: bytes, line: bytes = b"POST / HTTP/1.1", host: bytes = b"Host: a\r\n") -> bytes:
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


TE = b"Transfer-Encoding: chunked"
BAD = (400, "bad-request")
BAD_HOST = (400, "bad-host")
NO_METHOD = (501, "method-not-implemented")
NO_CODING = (501, "coding-not-implemented")
NO_VERSION = (505, "version-not-supported")

REFUSED: dict[str, tuple[bytes, tuple[int, str]]] = {
    # Content-Length
    "lengths-conflicting": (head(b"Content-Length: 3", b"Content-Length: 4") + BODY, BAD),
    "lengths-repeated": (head(b"Content-Length: 3", b"Content-Length: 3") + BODY, BAD),
    "lengths-repeated-other-case": (head(b"Content-Length: 3", b"content-length: 3") + BODY, BAD),
    "length-list": (head(b"Content-Length: 3, 3") + BODY, BAD),
    "length-plus": (head(b"Content-Length: +3") + BODY, BAD),
    "length-minus": (head(b"Content-Length: -3") + BODY, BAD),
    "length-hex": (head(b"Content-Length: 0x3") + BODY, BAD),
    "length-empty": (head(b"Content-Length:") + BODY, BAD),
    "length-blank": (head(b"Content-Length: 3 4") + BODY, BAD),
    "length-underscore": (head(b"Content-Length: 1_0") + BODY, BAD),
    "length-arabic-digit": (head(b"Content-Length: \xd9\xa3") + BODY, BAD),
    "length-overflow": (head(b"Content-Length: 99999999999999999999999") + BODY, BAD),
    # Transfer-Encoding
    "coding-then-length": (head(TE, b"Content-Length: 3") + BODY, BAD),
    "length-then-coding": (head(b"Content-Length: 3", TE) + BODY, BAD),
    "coding-then-zero-length": (head(TE, b"Content-Length: 0") + BODY, BAD),
    "coding-in-1.0": (head(TE, line=b"POST / HTTP/1.0") + BODY, BAD),
    "coding-repeated": (head(TE, TE) + BODY, BAD),
    "coding-listed-twice": (head(b"Transfer-Encoding: chunked, chunked") + BODY, BAD),
    "coding-chunked-first": (head(b"Transfer-Encoding: chunked, gzip") + BODY, BAD),
    "coding-identity-after": (head(TE, b"Transfer-Encoding: identity") + BODY, BAD),
    "coding-identity": (head(b"Transfer-Encoding: identity") + BODY, BAD),
    "coding-misspelt": (head(b"Transfer-Encoding: xchunked") + BODY, BAD),
    "coding-cut": (head(b"Transfer-Encoding: chunke") + BODY, BAD),
    "coding-parameter": (head(b"Transfer-Encoding: chunked;q=1") + BODY, BAD),
    "coding-quoted": (head(b'Transfer-Encoding: "chunked"') + BODY, BAD),
    "coding-empty": (head(b"Transfer-Encoding:") + BODY, BAD),
    "coding-comma-after": (head(b"Transfer-Encoding: chunked,") + BODY, BAD),
    "coding-vertical-tab": (head(b"Transfer-Encoding:\x0bchunked") + BODY, BAD),
    "coding-comma-before": (head(b"Transfer-Encoding: ,chunked") + BODY, NO_CODING),
    "coding-gzip": (head(b"Transfer-Encoding: gzip, chunked") + BODY, NO_CODING),
    "coding-gzip-in-two-fields": (head(b"Transfer-Encoding: gzip", TE) + BODY, NO_CODING),
    # header syntax
    "fold-space": (head(b"X: a", b" b"), BAD),
    "fold-tab": (head(b"X: a", b"\tb"), BAD),
    "fold-first": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", BAD),
    "bare-lf-line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", BAD),
    "bare-lf-field": (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", BAD),
    "bare-lf-end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", BAD),
    "bare-lf-all": (b"GET / HTTP/1.1\nHost: a\n\n", BAD),
    "bare-cr-field": (head(b"X: a\rY: b"), BAD),
    "bare-cr-end": (b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", BAD),
    "space-before-colon": (head(b"X : a"), BAD),
    "tab-before-colon": (head(b"X\t: a"), BAD),
    "host-space-before-colon": (head(host=b"Host : a\r\n"), BAD),
    "length-space-before-colon": (head(b"Content-Length : 3") + b"abc", BAD),
    "no-colon": (head(b"X"), BAD),
    "empty-name": (head(b": x"), BAD),
    "name-not-ascii": (head(b"X\xc3\xa9: x"), BAD),
    "name-brackets": (head(b"X[]: x"), BAD),
    "nul-in-value": (head(b"X: a\0b"), BAD),
    "control-in-value": (head(b"X: a\x01b"), BAD),
    "delete-in-value": (head(b"X: a\x7fb"), BAD),
    "nul-in-name": (head(b"X\0: a"), BAD),
    # Host
    "host-missing": (head(host=b""), BAD_HOST),
    "host-repeated": (head(b"Host: b"), BAD_HOST),
    "host-repeated-same": (head(b"host: a"), BAD_HOST),
    "host-repeated-in-1.0": (head(b"Host: a", line=b"GET / HTTP/1.0"), BAD_HOST),
    "host-list": (head(host=b"Host: a, b\r\n"), BAD_HOST),
    "host-empty": (head(host=b"Host:\r\n"), BAD_HOST),
    "host-port-only": (head(host=b"Host: :80\r\n"), BAD_HOST),
    "host-user": (head(host=b"Host: u@a\r\n"), BAD_HOST),
    "host-path": (head(host=b"Host: a/b\r\n"), BAD_HOST),
    "host-space": (head(host=b"Host: a b\r\n"), BAD_HOST),
    "host-port-word": (head(host=b"Host: a:http\r\n"), BAD_HOST),
    "host-port-too-large": (head(host=b"Host: a:65536\r\n"), BAD_HOST),
    "host-two-ports": (head(host=b"Host: a:80:80\r\n"), BAD_HOST),
    "host-not-ascii": (head(host=b"Host: caf\xc3\xa9\r\n"), BAD_HOST),
    "host-contradicts-target": (head(line=b"GET http://b/ HTTP/1.1"), BAD_HOST),
    "host-contradicts-target-port": (head(line=b"GET http://a:81/ HTTP/1.1"), BAD_HOST),
    "host-contradicts-target-scheme": (
        head(line=b"GET https://a/ HTTP/1.1", host=b"Host: a:80\r\n"),
        BAD_HOST,
    ),
    "target-user": (head(line=b"GET http://u@a/ HTTP/1.1"), BAD_HOST),
    "target-no-host": (head(line=b"GET http:///x HTTP/1.1"), BAD_HOST),
    # request line
    "target-ftp": (head(line=b"GET ftp://a/ HTTP/1.1"), BAD),
    "target-asterisk": (head(line=b"GET * HTTP/1.1"), BAD),
    "target-word": (head(line=b"GET foo HTTP/1.1"), BAD),
    "target-authority": (head(line=b"GET a:80 HTTP/1.1"), BAD),
    "target-space": (head(line=b"GET /a b HTTP/1.1"), BAD),
    "target-not-ascii": (head(line=b"GET /caf\xc3\xa9 HTTP/1.1"), BAD),
    "target-nul": (head(line=b"GET /\0 HTTP/1.1"), BAD),
    "target-missing": (head(line=b"GET HTTP/1.1"), BAD),
    "two-spaces": (head(line=b"GET /  HTTP/1.1"), BAD),
    "two-spaces-before-target": (head(line=b"GET  / HTTP/1.1"), BAD),
    "space-before-method": (head(line=b" GET / HTTP/1.1"), BAD),
    "space-after-version": (head(line=b"GET / HTTP/1.1 "), BAD),
    "method-unknown": (head(line=b"BREW / HTTP/1.1"), NO_METHOD),
    "method-lower-case": (head(line=b"get / HTTP/1.1"), NO_METHOD),
    "method-longer": (head(line=b"GETX / HTTP/1.1"), NO_METHOD),
    "method-of-rtsp": (head(line=b"DESCRIBE / HTTP/1.1"), NO_METHOD),
    "connect": (head(line=b"CONNECT a:443 HTTP/1.1"), NO_METHOD),
    "connect-with-body": (head(b"Content-Length: 3", line=b"CONNECT a:443 HTTP/1.1") + b"abc", NO_METHOD),
    "version-0.9": (b"GET /\r\n\r\n", BAD),
    "version-0.9-written": (head(line=b"GET / HTTP/0.9"), NO_VERSION),
    "version-1.2": (head(line=b"GET / HTTP/1.2"), NO_VERSION),
    "version-2.0": (head(line=b"GET / HTTP/2.0"), NO_VERSION),
    "version-3.0": (head(line=b"GET / HTTP/3.0"), NO_VERSION),
    "preface-of-http-2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NO_VERSION),
    "version-long": (head(line=b"GET / HTTP/1.10"), BAD),
    "version-short": (head(line=b"GET / HTTP/1"), BAD),
    "version-lower-case": (head(line=b"GET / http/1.1"), BAD),
    "version-rtsp": (head(line=b"GET / RTSP/1.0"), BAD),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", BAD),
    "json": (b'{"a": 1}\r\n\r\n', BAD),
    # chunked bodies
    "chunk-hex-prefix": (head(TE) + b"0x3\r\nabc\r\n0\r\n\r\n", BAD),
    "chunk-plus": (head(TE) + b"+3\r\nabc\r\n0\r\n\r\n", BAD),
    "chunk-minus": (head(TE) + b"-3\r\nabc\r\n0\r\n\r\n", BAD),
    "chunk-no-size": (head(TE) + b"\r\nabc\r\n0\r\n\r\n", BAD),
    "chunk-blank-after-size": (head(TE) + b"3 \r\nabc\r\n0\r\n\r\n", BAD),
    "chunk-blank-before-size": (head(TE) + b" 3\r\nabc\r\n0\r\n\r\n", BAD),
    "chunk-underscore": (head(TE) + b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n", BAD),
    "chunk-size-overflow": (head(TE) + b"10000000000000003\r\nabc\r\n0\r\n\r\n", BAD),
    "chunk-bare-lf": (head(TE) + b"3\nabc\r\n0\r\n\r\n", BAD),
    "chunk-bare-lf-after-data": (head(TE) + b"3\r\nabc\n0\r\n\r\n", BAD),
    "chunk-longer-than-its-size": (head(TE) + b"3\r\nabcd\r\n0\r\n\r\n", BAD),
    "chunk-shorter-than-its-size": (head(TE) + b"3\r\nab\r\n0\r\n\r\n", BAD),
    "chunk-extension-bare-lf": (head(TE) + b"3;\nabc\r\n0\r\n\r\n", BAD),
    "chunk-extension-bare-cr": (head(TE) + b"3;a\rb\r\nabc\r\n0\r\n\r\n", BAD),
    "chunk-extension-open-quote": (head(TE) + b'3;a="b\r\nabc\r\n0\r\n\r\n', BAD),
    "chunk-extension-long": (head(TE) + b"3;" + b"a" * 2000 + b"\r\nabc\r\n0\r\n\r\n", BAD),
    "chunk-end-bare-lf": (head(TE) + b"0\r\n\n", BAD),
    "trailer-fold": (head(TE) + b"0\r\nX: a\r\n b\r\n\r\n", BAD),
    "trailer-bare-lf": (head(TE) + b"0\r\nX: a\n\r\n", BAD),
    "trailer-no-colon": (head(TE) + b"0\r\nX\r\n\r\n", BAD),
    "trailer-length": (head(TE) + b"0\r\nContent-Length: 3\r\n\r\n", BAD),
    "trailer-coding": (head(TE) + b"0\r\nTransfer-Encoding: chunked\r\n\r\n", BAD),
    "trailer-host": (head(TE) + b"0\r\nhost: b\r\n\r\n", BAD),
    "trailer-upgrade": (head(TE) + b"0\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", BAD),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, expected = REFUSED[name]
    assert failure(requests([data])) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_refused_byte_by_byte_behind_another_request(name: str) -> None:
    data, expected = REFUSED[name]
    events = requests(byte_by_byte(OK + data))
    assert failure(events) == expected
    assert events == requests([OK + data])
    first = events[0]
    assert isinstance(first, RequestHead)
    assert first.target == b"/before"


@pytest.mark.parametrize("name", [name for name in REFUSED if not name.startswith(("chunk-", "trailer-"))])
def test_a_refused_head_is_not_reported(name: str) -> None:
    data, _ = REFUSED[name]
    assert len(requests([data])) == 1


@pytest.mark.parametrize("name", ["bare-lf-all", "tls", "json", "version-3.0", "space-before-colon"])
def test_refused_before_the_head_is_complete(name: str) -> None:
    data, expected = REFUSED[name]
    assert failure(requests([data.removesuffix(b"\r\n\r\n")])) == expected


def test_details_never_repeat_the_peer() -> None:
    for data, _ in REFUSED.values():
        (*_, last) = requests([data.replace(b"abc", b"ZZMARKZZ").replace(b"X", b"ZZMARKZZ")])
        assert "ZZMARKZZ" not in str(last)
