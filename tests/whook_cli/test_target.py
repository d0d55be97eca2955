"""`--forward` values, and how a raw request target is joined with them."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook_cli.exits import UsageError
from whook_cli.target import Target, parse_target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3000", Target("http", "localhost", 3000, b"")),
        (":3000", Target("http", "localhost", 3000, b"")),
        (" 3000 ", Target("http", "localhost", 3000, b"")),
        ("localhost", Target("http", "localhost", 80, b"")),
        ("localhost:3000", Target("http", "localhost", 3000, b"")),
        ("localhost:3000/", Target("http", "localhost", 3000, b"")),
        ("127.0.0.1:1", Target("http", "127.0.0.1", 1, b"")),
        ("http://web_1.local:8000/api/v1/", Target("http", "web_1.local", 8000, b"/api/v1")),
        ("HTTPS://Localhost", Target("https", "Localhost", 443, b"")),
        ("https://[::1]:8443/x", Target("https", "::1", 8443, b"/x")),
        ("[fe80::1%eth0]:80", Target("http", "fe80::1%eth0", 80, b"")),
        ("http://h/a%20b/%2F//", Target("http", "h", 80, b"/a%20b/%2F")),
        ("http://h/@scope", Target("http", "h", 80, b"/@scope")),
    ],
)
def test_what_forward_accepts(text: str, expected: Target) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "65536", "99999999", "http://", "http://:3000", "ftp://localhost", "unix:/run/x",
        "localhost:http", "http://a b/", "http://user:secret@h/", "h?x=1", "h#x", "http://h/a?b", "http://h/ä",
        "http://h/a b", "http://bücher.example/",
        "[::1", "[::1]3000", "::1", "a..b:1", "h:0", "h:70000", "-x",
    ],
)  # fmt: skip
def test_what_forward_refuses_with_one_line(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value).replace(text, "")


@pytest.mark.parametrize(
    ("text", "authority", "url"),
    [
        ("3000", b"localhost:3000", "http://localhost:3000"),
        ("http://h:80/a", b"h", "http://h/a"),
        ("https://h:443", b"h", "https://h"),
        ("https://h:80", b"h:80", "https://h:80"),
        ("[fe80::1%eth0]:81", b"[fe80::1]:81", "http://[fe80::1]:81"),
    ],
)
def test_authority_and_url(text: str, authority: bytes, url: str) -> None:
    target = parse_target(text)
    assert (target.authority, target.url) == (authority, url)


raw_targets = st.binary(max_size=200).map(lambda rest: b"/" + rest)


@given(raw=st.one_of(raw_targets, st.just(b"*"), st.binary(min_size=1)))
def test_without_a_base_every_target_stays_as_it_is(raw: bytes) -> None:
    assert parse_target("3000").join(raw) == raw


@given(raw=raw_targets, base=st.text(string.ascii_letters + "/%~", max_size=20))
def test_a_base_is_put_in_front_byte_for_byte(raw: bytes, base: str) -> None:
    target = parse_target(f"http://h/{base}")
    joined = target.join(raw)
    assert joined.endswith(raw)
    assert joined == ("/" + base).rstrip("/").encode() + raw


@pytest.mark.parametrize(
    ("raw", "joined"),
    [
        (b"*", b"*"),
        (b"http://shop.example/a?b=/c", b"/base/a?b=/c"),
        (b"http://shop.example?b", b"/base/?b"),
        (b"http://shop.example", b"/base/"),
        (b"//evil/x", b"/base//evil/x"),
    ],
)
def test_other_forms_of_target_with_a_base(raw: bytes, joined: bytes) -> None:
    assert parse_target("http://h/base/").join(raw) == joined
