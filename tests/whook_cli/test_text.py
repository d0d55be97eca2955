"""Whatever a sender writes, a terminal sees only printable characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook_cli.text import duration, hex_excerpt, printable, printable_lines, shorten, size

anything = st.one_of(st.binary(), st.text(st.characters(exclude_categories=())))


@given(raw=anything)
def test_printable_lets_nothing_else_through(raw: bytes | str) -> None:
    assert printable(raw).isprintable()


@given(raw=anything)
def test_lines_hold_no_control_characters_either(raw: bytes | str) -> None:
    assert all(line.isprintable() for line in printable_lines(raw))


@given(text=st.text().filter(str.isprintable))
def test_printable_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text
    assert printable(text.encode()) == text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"/\x1b]0;owned\x07", "/\\x1b]0;owned\\x07"),
        (b"a\r\nb", "a\\x0d\\x0ab"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b31m", "\\x9b31m"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("grüße 漢字", "grüße 漢字"),
    ],
)
def test_escapes(raw: bytes | str, shown: str) -> None:
    assert printable(raw) == shown


def test_lines_and_tabs() -> None:
    assert printable_lines("a\tb\r\nc\rd\n") == ["a    b", "c\\x0dd", ""]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9949, "9.9 kB"), (9950, "10 kB"), (999_499, "999 kB"),
        (999_500, "1.0 MB"), (26_214_400, "26 MB"), (5_000_000_000, "5.0 GB"), (10**15, "1000000 GB"),
    ],
)  # fmt: skip
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@given(count=st.integers(0, 10**12 - 10**9))
def test_sizes_are_short(count: int) -> None:
    assert len(size(count)) <= 7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 ms"),
        (0.0004, "0.4 ms"),
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (1.254, "1.25 s"),
        (200, "3 m 20"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_shorten() -> None:
    assert shorten("abc", 3) == "abc"
    assert shorten("abcd", 3) == "ab…"


@given(data=st.binary(max_size=300), limit=st.integers(0, 300))
def test_hex_excerpts_are_bounded_and_exact(data: bytes, limit: int) -> None:
    lines = hex_excerpt(data, limit)
    assert bytes.fromhex("".join(line[10:57] for line in lines)) == data[:limit]
    assert all(line.isprintable() for line in lines)
