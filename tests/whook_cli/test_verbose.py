"""Headers and bodies of --verbose: readable, unchanged, bounded."""

import gzip
import zlib

import pytest

from tests.support.records import ANSI, captured
from whook_cli.records import CAPTURE, Details
from whook_cli.verbose import HEX_BYTES, MAX_LINES, MAX_WIDTH, block, body_lines

JSON = [(b"Content-Type", b"application/json")]


def test_a_block() -> None:
    details = Details(
        [(b"Content-Type", b"application/json"), (b"X-a", b"\x07")],
        captured(b'{"a":1.10,"a":[]}'),
        b"OK",
        [(b"Server", b"x")],
        captured(b""),
    )
    assert block(details, 200, colour=False).split("\n") == [
        "  > Content-Type: application/json",
        "  > X-a: \\x07",
        "",
        "    {",
        '      "a": 1.10,',
        '      "a": []',
        "    }",
        "",
        "  < 200 OK",
        "  < Server: x",
    ]


def test_json_is_highlighted_where_there_are_colours() -> None:
    body = captured(b'{"a": [1, null, "x"]}')
    plain, coloured = (body_lines(JSON, body, colour=c) for c in (False, True))
    assert any("\x1b[" in line for line in coloured)
    assert [ANSI.sub("", line) for line in coloured] == plain


@pytest.mark.parametrize(
    "text", ["{broken", "[" * 5000, '{"a":"\x1b"}', "\ufeff{}", "a=1&b=2", "plain\ttext"]
)
def test_what_is_no_json_is_shown_as_it_is(text: str) -> None:
    lines = body_lines(JSON, captured(text.encode()), colour=True)
    assert all(ANSI.sub("", line).isprintable() for line in lines)
    assert lines


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"X-Gzip"])
def test_compressed_bodies_are_unpacked(pack: object, coding: bytes) -> None:
    body = captured(pack(b'{"a":1}'))  # type: ignore[operator]
    assert body_lines([*JSON, (b"content-encoding", coding)], body, colour=False) == ["{", '  "a": 1', "}"]


def test_a_bomb_is_cut_and_an_unknown_coding_is_binary() -> None:
    bomb = captured(gzip.compress(b"a" * 50_000_000))
    lines = body_lines([(b"Content-Encoding", b"gzip")], bomb, colour=False)
    assert sum(map(len, lines)) <= 2 * MAX_WIDTH
    assert lines[-1] == "… (cut)"
    assert body_lines([(b"Content-Encoding", b"br")], captured(b"abc"), colour=False)[0] == "(3 B br)"
    assert body_lines([(b"Content-Encoding", b"gzip")], captured(b"abc"), colour=False)[0] == "(3 B gzip)"


def test_binary_is_a_size_and_an_excerpt() -> None:
    lines = body_lines(
        [(b"Content-Type", b"image/png; x")], captured(b"\x89PNG\r\n\x1a\n" * 1000), colour=False
    )
    assert lines[0] == "(8.0 kB binary image/png)"
    assert len(lines) == 1 + HEX_BYTES // 16


@pytest.mark.parametrize(
    "data", [b"a\n" * 100_000, b"a" * 100_000, b"[" + b"1," * 30_000 + b"1]", b"x" * CAPTURE * 2]
)
def test_long_bodies_are_cut(data: bytes) -> None:
    lines = body_lines([], captured(data), colour=True)
    assert len(lines) <= MAX_LINES + 1
    assert all(len(ANSI.sub("", line)) <= MAX_WIDTH for line in lines)
    assert lines[-1] == "… (cut)"
