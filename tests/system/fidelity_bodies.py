"""Fidelity cases about bodies: sizes from nothing to 50 MiB, chunked or not, up and down, of every kind."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

from tests.support.fidelity import Case, Stage, noise, once, plain, say
from tests.support.origin import Turn, reply, response
from tests.support.rawhttp import Message, Peer, chunked
from tests.system.fidelity_requests import OK, head, post

MIB = 1024 * 1024
SIZES = (
    0,
    1,
    2,
    1_023,
    1_024,
    1_025,
    4_096,
    16_384,
    65_535,
    65_536,
    65_537,
    131_072,
    262_143,
    262_144,
    262_145,
    524_288,
    MIB,
    5 * MIB,
    25 * MIB,
    50 * MIB,
)
"""Around every boundary of the wire (data chunk 64 KiB, credit 256 KiB), GitHub's 25 MB cap, and 50 MiB."""

BOUNDARY = b"----7MA4YWxkTrZu0gW"
MULTIPART = (
    b'--%(b)s\r\nContent-Disposition: form-data; name="field"\r\n\r\nvalue\r\n'
    b'--%(b)s\r\nContent-Disposition: form-data; name="file"; filename="a \\"b\\".bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n"
    % {b"b": BOUNDARY}
    + bytes(range(256))
    + b"\r\n--"
    + BOUNDARY
    + b"--\r\n"
)

KINDS: dict[str, tuple[bytes, bytes]] = {
    "json": (b"application/json", json.dumps({"id": "evt_1", "n": [1, 2.50, None]}).encode()),
    "json with odd white space": (b"application/json", b'{ "a" :1 ,\r\n\t"b":  [ ] , "a":2 }\n\n'),
    "json with byte order mark": (b"application/json; charset=utf-8", b"\xef\xbb\xbf{}"),
    "json that is broken": (b"application/json", b'{"a": '),
    "json in utf-16": (b"application/json; charset=utf-16", '{"a": "é"}'.encode("utf-16")),
    "json that says nothing of its type": (b"", b'{"untyped": true}'),
    "form": (b"application/x-www-form-urlencoded", b"a=1&b=%20+%2B&a=2&c="),
    "form carrying json": (b"application/x-www-form-urlencoded", b"payload=%7B%22a%22%3A1%7D"),
    "multipart": (b"multipart/form-data; boundary=" + BOUNDARY, MULTIPART),
    "xml": (b"text/xml", b"<?xml version='1.0' encoding='latin-1'?><a>\xe9</a>"),
    "latin-1 text": (b"text/plain; charset=iso-8859-1", b"caf\xe9\r\n"),
    "every byte": (b"application/octet-stream", bytes(range(256))),
    "nul bytes": (b"application/octet-stream", bytes(1000)),
    "looks like a request": (b"text/plain", b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    "looks like a response": (b"text/plain", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
    "looks like a last chunk": (b"text/plain", b"0\r\n\r\n"),
    "only line breaks": (b"text/plain", b"\r\n" * 40),
    "protobuf": (b"application/x-protobuf", b"\x08\x96\x01\x12\x07testing"),
}


def _chunks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _sized() -> Iterator[Case]:
    for size in SIZES:
        data = noise(size)
        yield plain(f"upload of {size} bytes", post(body=data), OK)
        yield plain(
            f"download of {size} bytes", head(b"GET", b"/", b"Host: @HOST@"), response(data, b"X-A: 1")
        )


def _kinds() -> Iterator[Case]:
    for name, (kind, data) in KINDS.items():
        lines = (b"Content-Type: " + kind,) if kind else ()
        yield plain(f"body both ways: {name}", post(*lines, body=data), response(data, *lines))
    for name, packed in {
        "gzip": gzip.compress(b'{"a": 1}' * 999, mtime=0),
        "deflate": zlib.compress(b'{"a": 1}' * 999),
        "gzip in name only": b"this is not gzip",
        "br": noise(500),
    }.items():
        coding = b"Content-Encoding: " + name.split()[0].encode()
        yield plain(
            f"encoded both ways: {name}", post(coding, body=packed), response(packed, coding, b"Vary: *")
        )


def _chunked(name: str, framed: bytes, *lines: bytes) -> Iterator[Case]:
    """Send a chunked body up, and the same one down."""
    te = b"Transfer-Encoding: chunked"
    yield plain(f"chunked upload: {name}", head(b"POST", b"/c", b"Host: @HOST@", te, *lines) + framed, OK)
    answer = b"\r\n".join((b"HTTP/1.1 200 OK", b"A: 1", te, *lines, b"B: 2")) + b"\r\n\r\n" + framed
    yield plain(f"chunked download: {name}", head(b"GET", b"/c", b"Host: @HOST@"), answer)


def _all_chunked() -> Iterator[Case]:
    yield from _chunked("nothing", chunked())
    yield from _chunked("one byte", chunked(b"x"))
    yield from _chunked("one byte a chunk", chunked(*_chunks(noise(300), 1)))
    yield from _chunked("seven bytes a chunk", chunked(*_chunks(noise(3_000), 7)))
    yield from _chunked("64 KiB in one", chunked(noise(65_536)))
    yield from _chunked("1 MiB in one", chunked(noise(MIB)))
    yield from _chunked("1 MiB in 1,000 byte chunks", chunked(*_chunks(noise(MIB), 1_000)))
    yield from _chunked("50 MiB in 64 KiB chunks", chunked(*_chunks(noise(50 * MIB), 65_536)))
    yield from _chunked("extensions", chunked(b"abc", b"defg", extension=b';a=b;c="d"'))
    yield from _chunked(
        "upper case and leading zeros", b"000A\r\n0123456789\r\n0B\r\n01234567890\r\n00\r\n\r\n"
    )
    yield from _chunked("looks like chunks", chunked(b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n"))
    yield from _chunked("one trailer", chunked(b"abc", trailers=b"X-Sum: 1\r\n"), b"Trailer: X-Sum")
    yield from _chunked(
        "several trailers",
        chunked(b"abc", trailers=b"x-LOW: 1\r\nX-Dup: a\r\nX-Dup: b\r\nX-Empty:\r\n"),
    )
    yield from _chunked("trailers without body", chunked(trailers=b"Server-Timing: db;dur=53\r\n"))
    yield from _chunked(
        "gzip", chunked(*_chunks(gzip.compress(noise(9_000), mtime=0), 999)), b"Content-Encoding: gzip"
    )


def _in_pieces(pieces: int, request: bytes) -> Case:
    """Send a request in so many packets, each after the last one left."""

    def talk(client: Peer, stage: Stage) -> list[Message]:
        data = stage.text(request)
        step = -(-len(data) // pieces)
        for piece in _chunks(data, step):
            client.send(piece)
        return client.read_responses(b"POST")

    return Case(f"request in {pieces} packets", talk, once(reply(OK)))


def _answer_in_pieces(name: str, step: int, answer: bytes) -> Case:
    """Answer in packets of so many bytes."""

    def script(turn: Turn) -> None:
        turn.read()
        turn.send(*_chunks(answer, step))

    return Case(f"response in packets: {name}", say(post()), once(script))


def _pieces() -> Iterator[Case]:
    request = post(b"Content-Type: text/plain", body=b"0123456789" * 20)
    for pieces in (2, 3, 50, len(request)):
        yield _in_pieces(pieces, request)
    yield _answer_in_pieces("byte by byte", 1, response(b"0123456789", b"X-A: 1"))
    yield _answer_in_pieces(
        "chunked, byte by byte",
        1,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc", b"d"),
    )
    yield _answer_in_pieces("1 MiB in odd pieces", 9_973, response(noise(MIB)))


CASES: list[Case] = [*_sized(), *_kinds(), *_all_chunked(), *_pieces()]
