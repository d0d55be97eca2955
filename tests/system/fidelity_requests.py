"""Fidelity cases about request heads: targets, methods, header names, order, duplicates, odd values."""

from __future__ import annotations

from tests.support.fidelity import Case, plain
from tests.support.origin import response

OK = response(b"ok", b"Content-Type: text/plain")
BASIC = (b"Host: @HOST@", b"User-Agent: raw/1", b"Accept: */*")


def head(method: bytes, target: bytes, *lines: bytes, version: bytes = b"1.1") -> bytes:
    """Give the bytes of a request head."""
    return b"\r\n".join((b"%s %s HTTP/%s" % (method, target, version), *lines)) + b"\r\n\r\n"


def post(*lines: bytes, body: bytes = b"{}", target: bytes = b"/hook") -> bytes:
    """Give the bytes of a POST whose header lines, after Host, are these."""
    return head(b"POST", target, b"Host: @HOST@", *lines, b"Content-Length: %d" % len(body)) + body


TARGETS: dict[str, bytes] = {
    "root": b"/",
    "root with empty query": b"/?",
    "query order": b"/a?b=1&a=2&b=0&c=&=d&e",
    "query without values": b"/a?x&y&z",
    "query with empty pairs": b"/a?&&x=1&&",
    "query with semicolons": b"/a?x=1;y=2",
    "query with question marks": b"/a??x=?",
    "query that is a URL": b"/a?next=http://other.example/x?y=z",
    "query with plus and percent-twenty": b"/a?q=a+b%20c",
    "query in another charset": b"/a?q=%FC%DF",
    "query with bare percent": b"/a?discount=100%&x=%zz",
    "query with brackets": b"/a?filter[name]=x&filter[ids][]=1",
    "encoded slash upper case": b"/a%2Fb",
    "encoded slash lower case": b"/a%2fb",
    "encoded utf-8": b"/%E2%82%AC/%f0%9f%90%8d",
    "encoded nul and line break": b"/a%00b%0d%0ac",
    "encoded unreserved": b"/%7Euser/%41%42",
    "double encoding": b"/a%252Fb",
    "double slashes": b"//double//slash//",
    "dot segments": b"/./a/../b/.",
    "encoded dot segments": b"/a/%2e%2e/b",
    "path parameters": b"/a;v=1/b;w=2",
    "sub-delimiters": b"/!$&'()*+,;=:@-._~",
    "curly, pipe, caret": b"/{id}|x^y`z",
    "quotes and angle brackets": b'/a"b<c>',
    "backslash": b"/a\\b",
    "trailing slash": b"/hook/",
    "file name with dots": b"/a..b/...",
    "four kibibytes of path": b"/" + b"p" * 4096,
    "eight kibibytes of query": b"/a?q=" + b"x%20" * 2048,
}

METHODS = (
    b"GET",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"OPTIONS",
    b"PROPFIND",
    b"REPORT",
    b"SEARCH",
    b"PURGE",
    b"LOCK",
    b"LINK",
    b"MKCALENDAR",
    b"SUBSCRIBE",
)

HEADERS: dict[str, tuple[bytes, ...]] = {
    "odd case": (b"x-lower: 1", b"X-UPPER: 2", b"X-mIxEd-CaSe: 3", b"user-AGENT: raw"),
    "same name in several cases": (b"X-Dup: 1", b"x-dup: 2", b"X-DUP: 3"),
    "duplicates keep their order": (b"A: 1", b"B: 2", b"A: 3", b"C: 4", b"B: 5", b"A: 6"),
    "empty values": (b"X-Empty:", b"X-Empty-Too: ", b"X-Full: 1"),
    "white space around values": (b"X-Left:    a", b"X-Right: b   ", b"X-Tab:\tc\t", b"X-None:d"),
    "white space within values": (b"X-Inner: a  b\tc   d",),
    "no separator space": (b"X-A:1", b"X-B:2"),
    "high bytes": (b"X-Latin: caf\xe9", b"X-Utf8: \xe2\x82\xac", b"X-Raw: \x80\xff\xfe"),
    "odd token characters in names": (b"X!#$%&'*+-.^_`|~9: 1", b"snake_case_name: 2", b"1: digit"),
    "punctuation in values": (b'X-P: a,b;c="d, e" (f) <g> [h] {i} = : / ? @ \\ ', b"X-Colon: ::a:b"),
    "sixteen kibibytes of value": (b"X-Long: " + b"v" * 16_384,),
    "ninety headers": tuple(b"X-Header-%d: value %d" % (i, i * i) for i in range(90)),
    "several cookies": (b"Cookie: a=1; b=2", b"Cookie: c=3"),
    "authorization": (b"Authorization: Basic dXNlcjpwYXNz", b"Proxy-Authorization: Basic eDp5"),
    "accept headers": (
        b"Accept: text/html;q=0.8, */*;q=0.1",
        b"Accept-Encoding: gzip, br, zstd",
        b"Accept-Language: de",
    ),
    "conditional and range": (
        b'If-None-Match: W/"x", "y"',
        b"Range: bytes=0-4,9-",
        b"If-Modified-Since: yesterday",
    ),
    "sender's own forwarding headers": (
        b"X-Forwarded-For: 203.0.113.7, 10.0.0.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: spoof.example",
        b"Forwarded: for=203.0.113.7;proto=https",
        b"Via: 1.0 fred",
        b"X-Real-IP: 203.0.113.7",
    ),
    "sender's own whook headers": (b"Whook-Event-Id: evt_forged", b"Whook-Attempt: 99"),
    "signature headers": (
        b"Stripe-Signature: t=1,v1=ab",
        b"X-Hub-Signature-256: sha256=00",
        b"webhook-signature: v1,aa v1,bb",
    ),
    "connection close": (b"Connection: close",),
    "connection keep-alive": (b"Connection: keep-alive", b"Keep-Alive: timeout=5, max=10"),
    "connection names a header": (b"X-Secret: 1", b"Connection: X-Secret, close", b"X-Public: 2"),
    "connection in two lines": (
        b"Connection: X-One",
        b"X-One: 1",
        b"connection: x-two",
        b"X-Two: 2",
        b"X-Three: 3",
    ),
    "proxy connection": (b"Proxy-Connection: keep-alive", b"X-After: 1"),
    "te": (b"TE: gzip;q=0.5", b"Connection: TE"),
    "upgrade not named by connection": (b"Upgrade: websocket", b"X-After: 1"),
    "content headers": (
        b'Content-Type: a/b; c="d"',
        b"Content-MD5: x",
        b"Content-Language: en",
        b"content-disposition: x",
    ),
    "trailer announcement without trailers": (b"Trailer: X-Sum",),
    "priority and client hints": (
        b"Priority: u=1, i",
        b'Sec-CH-UA: "a";v="1"',
        b"Sec-Fetch-Mode: cors",
        b"DNT: 1",
    ),
}


def _targets() -> list[Case]:
    return [plain(f"target: {name}", head(b"GET", target, *BASIC), OK) for name, target in TARGETS.items()]


def _methods() -> list[Case]:
    cases = [plain(f"method: {m.decode()}", head(m, b"/m", *BASIC), OK) for m in METHODS]
    with_body = [
        plain(f"method with body: {m.decode()}", head(m, b"/m", *BASIC, b"Content-Length: 4") + b"body", OK)
        for m in (b"GET", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND")
    ]
    return [*cases, *with_body]


def _headers() -> list[Case]:
    cases = [plain(f"request headers: {name}", post(*lines), OK) for name, lines in HEADERS.items()]
    return [
        *cases,
        plain("request headers: only host", head(b"GET", b"/", b"Host: @HOST@"), OK),
        plain(
            "request headers: host in the middle", head(b"GET", b"/", b"A: 1", b"hOsT: @HOST@", b"B: 2"), OK
        ),
        plain("request headers: no user agent, no accept", post(), OK),
        plain(
            "request headers: length before and after others",
            head(b"POST", b"/", b"content-length: 2", b"Host: @HOST@", b"X-Last: 1") + b"ab",
            OK,
        ),
        plain("version: 1.0", head(b"GET", b"/old", b"Host: @HOST@", version=b"1.0"), OK),
        plain(
            "version: 1.0 with body",
            head(b"POST", b"/old", b"Host: @HOST@", b"Content-Length: 3", version=b"1.0") + b"old",
            OK,
        ),
        plain(
            "version: 1.0 keep-alive",
            head(b"GET", b"/old", b"Host: @HOST@", b"Connection: keep-alive", version=b"1.0"),
            OK,
        ),
    ]


CASES: list[Case] = [*_targets(), *_methods(), *_headers()]
