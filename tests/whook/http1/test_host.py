"""One strict reading of `host[:port]`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook.http1 import MessageError, parse_host


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"demo.localhost:8080", (b"demo.localhost", 8080)),
        (b"DEMO.Example", (b"demo.example", None)),
        (b"demo.example.", (b"demo.example", None)),
        (b"demo.example.:80", (b"demo.example", 80)),
        (b"a:", (b"a", None)),
        (b"a:0", (b"a", 0)),
        (b"a:00080", (b"a", 80)),
        (b"a:65535", (b"a", 65535)),
        (b"127.0.0.1:1", (b"127.0.0.1", 1)),
        (b"under_score.x--y", (b"under_score.x--y", None)),
        (b"[::1]:8080", (b"[::1]", 8080)),
        (b"[2001:DB8::1]", (b"[2001:db8::1]", None)),
        (b"[::ffff:127.0.0.1]", (b"[::ffff:127.0.0.1]", None)),
        (b"x" * 253 + b":1", (b"x" * 253, 1)),
    ],
)
def test_accepted(value: bytes, expected: tuple[bytes, int | None]) -> None:
    assert parse_host(value) == expected


REFUSED = (
    b"|:|:80|.|a..b|.a|a:b|a:-1|a:65536|a:000080|a:80:80|*|a b| a|a |a,b|u@a|a/b|a?b|a#b|a\\b|a%2eb|a;b"
    b"|a\0|a\n|[|[]|[::1|::1|[::1]x|[::g]|[1.2.3.4]|[fe80::1%eth0]|[::1]:x"
    b"|caf\xc3\xa9|" + b"x" * 300
).split(b"|")


@pytest.mark.parametrize("value", REFUSED)
def test_refused(value: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        parse_host(value)
    assert (caught.value.status, caught.value.type) == (400, "bad-host")


@given(st.binary(max_size=40) | st.text(alphabet="a.:[]0-_", max_size=20).map(str.encode))
def test_only_the_documented_error_escapes(value: bytes) -> None:
    try:
        host, port = parse_host(value)
    except MessageError:
        return
    assert host
    assert host == host.lower()
    assert port is None or 0 <= port <= 65_535
    assert parse_host(host + (b":%d" % port if port is not None else b"")) == (host, port)
