"""What travels on and what does not (RFC 9110, 7.6.1)."""

import pytest

from whook.http1 import Headers, hop_by_hop

END_TO_END: Headers = [
    (b"Host", b"a"),
    (b"X-B", b"1"),
    (b"x-a", b"2"),
    (b"X-B", b"1"),
    (b"Transfer-Encoding", b"Chunked"),
    (b"Trailer", b"T"),
    (b"Proxy-Authorization", b"p"),
]


def test_end_to_end_fields_stay_as_they_are() -> None:
    kept = hop_by_hop(END_TO_END, upgrade=False)
    assert kept == END_TO_END
    assert kept is not END_TO_END


@pytest.mark.parametrize(
    "field",
    [
        (b"Connection", b"keep-alive"),
        (b"connection", b""),
        (b"KEEP-ALIVE", b"timeout=5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"TE", b"gzip"),
        (b"te", b""),
        (b"Upgrade", b"h2c"),
    ],
)
def test_hop_by_hop_fields_are_dropped(field: tuple[bytes, bytes]) -> None:
    assert hop_by_hop([END_TO_END[0], field, *END_TO_END[1:]], upgrade=False) == END_TO_END


def test_what_connection_names_is_dropped() -> None:
    fields = [(b"Connection", b"X-b , close"), (b"connection", b"x-A,,")]
    kept = hop_by_hop([*END_TO_END, *fields], upgrade=False)
    assert kept == [f for f in END_TO_END if not f[0].lower().startswith(b"x-")]


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"Transfer-Encoding"])
def test_what_frames_or_routes_stays_even_if_connection_names_it(name: bytes) -> None:
    assert hop_by_hop([(name, b"1"), (b"Connection", b"close, " + name)], upgrade=False) == [(name, b"1")]


@pytest.mark.parametrize("value", [b"trailers", b"gzip, Trailers", b"deflate;q=0.5, trailers"])
def test_te_trailers_stays(value: bytes) -> None:
    fields = [(b"Te", value), (b"Connection", b"TE")]
    assert hop_by_hop(fields, upgrade=False) == [(b"Te", b"trailers")]


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        (b"Upgrade", b"Upgrade"),
        (b"keep-alive, upgrade", b"upgrade"),
        (b"UPGRADE ,HTTP2-Settings", b"UPGRADE"),
    ],
)
def test_upgrade(connection: bytes, kept: bytes) -> None:
    fields = [(b"uPGRADE", b"WebSocket"), (b"Sec-WebSocket-Key", b"k"), (b"CONNECTION", connection)]
    extra = (b"HTTP2-Settings", b"s")
    dropped = b"HTTP2" in connection
    assert hop_by_hop([extra, *fields], upgrade=True) == [
        *([] if dropped else [extra]),
        *fields[:2],
        (b"CONNECTION", kept),
    ]
    assert hop_by_hop(fields, upgrade=False) == fields[1:2]


def test_upgrade_without_the_option() -> None:
    fields = [(b"Connection", b"close"), (b"Connection", b"Upgrade"), (b"Upgrade", b"x")]
    assert hop_by_hop(fields, upgrade=True) == fields[1:]
