"""Fidelity cases about responses: statuses, header lines, framings, HEAD, trailers, interim ones."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

from tests.support.fidelity import Case, Outcome, Stage, noise, once, plain, say
from tests.support.origin import Script, Turn, reply, response
from tests.support.rawhttp import Message, Peer, chunked
from tests.system.fidelity_requests import OK, head, post

GET = head(b"GET", b"/", b"Host: @HOST@")
HEAD = head(b"HEAD", b"/", b"Host: @HOST@")

STATUSES = (
    b"200 OK",
    b"201 Created",
    b"202 Accepted",
    b"203 Non-Authoritative Information",
    b"206 Partial Content",
    b"207 Multi-Status",
    b"299 Miscellaneous",
    b"300 Multiple Choices",
    b"301 Moved Permanently",
    b"302 Found",
    b"303 See Other",
    b"307 Temporary Redirect",
    b"308 Permanent Redirect",
    b"400 Bad Request",
    b"401 Unauthorized",
    b"402 Payment Required",
    b"403 Forbidden",
    b"404 Not Found",
    b"405 Method Not Allowed",
    b"409 Conflict",
    b"410 Gone",
    b"418 I'm a teapot",
    b"422 Unprocessable Content",
    b"425 Too Early",
    b"429 Too Many Requests",
    b"451 Unavailable For Legal Reasons",
    b"500 Internal Server Error",
    b"502 Bad Gateway",
    b"503 Service Unavailable",
    b"504 Gateway Timeout",
    b"599 Unheard Of",
)

REASONS: dict[str, bytes] = {
    "empty reason": b"200 ",
    "own words": b"200 Fine by me, thanks",
    "high bytes in reason": b"200 caf\xe9",
    "misleading reason": b"500 OK",
}

HEADERS: dict[str, tuple[bytes, ...]] = {
    "two set-cookie": (b"Set-Cookie: a=1; Path=/", b"Set-Cookie: b=2; HttpOnly"),
    "set-cookie with commas": (b"Set-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", b"set-cookie: a=2"),
    "twenty set-cookie among others": tuple(
        line for i in range(20) for line in (b"Set-Cookie: c%d=%d" % (i, i), b"X-%d: y" % i)
    ),
    "odd case": (b"content-TYPE: text/plain", b"X-uPPer: 1", b'etag: "x"'),
    "duplicates keep their order": (b"B: 1", b"A: 2", b"B: 3", b"A: 4"),
    "same name in several cases": (b"Vary: a", b"VARY: b", b"vary: c"),
    "empty values": (b"X-Empty:", b"X-Full: 1", b"X-Empty-Too: "),
    "white space around values": (b"X-A:   a", b"X-B:b  ", b"X-C:\tc"),
    "high bytes": (b"X-Latin: caf\xe9", b"X-Raw: \x80\xff"),
    "sixteen kibibytes of value": (b"X-Long: " + b"v" * 16_384,),
    "ninety headers": tuple(b"X-Header-%d: value" % i for i in range(90)),
    "no date, no server": (),
    "date and server as given": (b"Date: yesterday", b"Server: mine/1.0 (x)"),
    "several challenges": (b'WWW-Authenticate: Basic realm="a, b"', b"WWW-Authenticate: Bearer"),
    "location as given": (b"Location: ../a b/%2F?x=\xe9#frag",),
    "entity tags and links": (b'ETag: W/"a"', b"Link: </a>; rel=next", b"Link: </b>; rel=prev"),
    "via and warnings": (b"Via: 1.1 other", b'Warning: 199 - "x"', b"Age: 3"),
    "cors": (b"Access-Control-Allow-Origin: *", b"Access-Control-Allow-Headers: a, B"),
    "connection close": (b"Connection: close",),
    "connection names a header": (b"X-Hop: 1", b"Connection: x-hop", b"X-End: 2"),
    "keep-alive": (b"Connection: keep-alive", b"Keep-Alive: timeout=5"),
    "whook's own names": (b"Whook-Event-Id: evt_of_the_server", b"X-Forwarded-For: 1.2.3.4"),
    "alternative services": (b'Alt-Svc: h3=":443"', b"Strict-Transport-Security: max-age=1"),
}

INFORMATIONAL: dict[str, tuple[bytes, ...]] = {
    "early hints": (b"103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b.js>",),
    "early hints twice": (b"103 Early Hints\r\nLink: </a>", b"103 Early Hints\r\nLink: </b>"),
    "processing": (b"102 Processing\r\nX-Progress: 50",),
    "many": tuple(b"103 Early Hints\r\nX-N: %d" % n for n in range(20)),
    "unknown": (b"155 Who Knows\r\nX-A: 1",),
}


def _statuses() -> Iterator[Case]:
    for status in STATUSES:
        answer = response(b"{}", b"Content-Type: application/json", status=status)
        yield plain(f"status: {status.decode()}", post(), answer)
    for name, status in REASONS.items():
        yield plain(f"status: {name}", GET, response(b"x", status=status))
    yield plain("status: 204", post(), response(b"", b"X-A: 1", status=b"204 No Content", length=False))
    yield plain("status: 205", post(), response(b"", status=b"205 Reset Content"))
    yield plain(
        "status: 304 with length", GET, b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 99\r\n\r\n"
    )
    yield plain("status: 304 bare", GET, b"HTTP/1.1 304 Not Modified\r\n\r\n")


def _headers() -> Iterator[Case]:
    for name, lines in HEADERS.items():
        close = any(line.lower() == b"connection: close" for line in lines)
        yield plain(f"response headers: {name}", GET, response(b"body", *lines), close=close)
    yield plain(
        "response headers: length first", GET, b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\nX-A: 1\r\n\r\nx"
    )


def _framings() -> Iterator[Case]:
    te = b"Transfer-Encoding: chunked"
    closing = {
        "some bytes": response(b"until the end", b"Connection: close", b"X-A: 1", length=False),
        "nothing": response(b"", b"Connection: close", length=False),
        "1 MiB": response(noise(1 << 20), b"Connection: close", length=False),
        "without saying so": response(b"until the end", length=False),
        "1.0": response(b"until the end", b"Server: old", length=False, version=b"1.0"),
        "1.0 with length": response(b"exactly", version=b"1.0"),
    }  # fmt: skip
    for name, answer in closing.items():
        yield plain(f"closed by the server: {name}", GET, answer, close=True)
    yield plain("1.0 keep-alive with length", GET, response(b"x", b"Connection: keep-alive", version=b"1.0"))
    yield plain("head: with length", HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\nX-A: 1\r\n\r\n")
    yield plain("head: chunked", HEAD, b"HTTP/1.1 200 OK\r\n%s\r\nX-A: 1\r\n\r\n" % te)
    yield plain("head: without framing", HEAD, b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n")
    yield plain("head: not found", HEAD, b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\n")
    yield plain("length zero", GET, response(b""))
    yield plain("gzip", GET, response(gzip.compress(b"a" * 9_999, mtime=0), b"Content-Encoding: gzip"))
    yield plain(
        "ranges",
        head(b"GET", b"/", b"Host: @HOST@", b"Range: bytes=2-5"),
        response(b"2345", b"Content-Range: bytes 2-5/10", status=b"206 Partial Content"),
    )
    yield plain(
        "trailers announced",
        head(b"GET", b"/", b"Host: @HOST@", b"TE: trailers"),
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum, x-OTHER\r\n%s\r\n\r\n" % te
        + chunked(b"abc", b"def", trailers=b"X-Sum: 6\r\nx-OTHER: caf\xe9\r\nX-Sum: 7\r\n"),
    )


def _informational() -> Iterator[Case]:
    for name, messages in INFORMATIONAL.items():
        parts = [b"HTTP/1.1 " + message + b"\r\n\r\n" for message in messages]
        yield plain(f"informational: {name}", GET, b"".join(parts) + OK)
    parts = [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", response(status=b"404 Not Found")]
    yield plain("informational: then an error", GET, b"".join(parts))
    te = b"Transfer-Encoding: chunked"
    chunks = b"HTTP/1.1 200 OK\r\n%s\r\n\r\n" % te + chunked(b"ab", b"c")
    yield plain("informational: then chunks", GET, parts[0] + chunks)

    def hints_arrive_first(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(GET))
        hint = client.read_head()
        stage.gates["a"].open()
        return [hint, *client.read_responses()]

    def hint_then_wait(stage: Stage) -> list[Script]:
        def script(turn: Turn) -> None:
            turn.read()
            turn.send(parts[0])
            stage.gates["a"].wait()
            turn.send(OK)

        return [script]

    yield Case("informational: not held back", hints_arrive_first, hint_then_wait)


def _continue() -> Iterator[Case]:
    expecting = head(b"POST", b"/e", b"Host: @HOST@", b"Expect: 100-continue", b"Content-Length: 5")

    def invited(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(expecting))
        first = client.read_head()
        assert first.status == 100
        client.send(b"hello")
        return [first, *client.read_responses(b"POST")]

    def invite(turn: Turn) -> None:
        turn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        turn.read()
        turn.send(OK)

    def one_body(outcome: Outcome) -> None:
        assert [m.body for m in outcome.up] == [b"hello"]

    yield Case("expect: invited", invited, once(invite), one_body)

    def refuse(turn: Turn) -> None:
        turn.origin.record(turn.head)
        turn.send(response(b"no", b"Connection: close", status=b"417 Expectation Failed"))
        turn.close()

    def refused(client: Peer, stage: Stage) -> list[Message]:
        client.send(stage.text(expecting))
        return [m for m in client.read_responses(b"POST") if m.status != 100]

    yield Case("expect: refused", refused, once(refuse))
    yield Case("expect: body sent without waiting", say(expecting + b"hello"), once(reply(OK)), one_body)


CASES: list[Case] = [*_statuses(), *_headers(), *_framings(), *_informational(), *_continue()]
