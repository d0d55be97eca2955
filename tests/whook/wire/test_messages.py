"""Messages: what goes in comes out, older and newer peers are understood, garbage is a ProtocolError."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.wire_talk import ROUTE, request, response
from whook.wire import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    GoAway,
    GoAwayCode,
    Hello,
    ProtocolError,
    Request,
    Reset,
    ResetCode,
    Response,
    decode_goaway,
    decode_hello,
    decode_open,
    decode_reset,
    encode_goaway,
    encode_hello,
    encode_open,
    encode_reset,
    encode_response,
    peek_route,
)
from whook.wire.messages import decode_response, decode_trailers, encode_end

headers = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=5)
requests = st.builds(
    Request,
    event_id=st.text(max_size=30),
    attempt=st.integers(0, 1000),
    deadline_ms=st.integers(0, 10**9),
    scheme=st.sampled_from(["http", "https"]),
    client=st.text(max_size=40),
    method=st.binary(max_size=10),
    target=st.binary(max_size=60),
    headers=headers,
)
responses = st.builds(Response, status=st.integers(100, 999), reason=st.binary(max_size=20), headers=headers)
DECODERS: list[Callable[[bytes], Any]] = [
    decode_open, decode_response, decode_trailers, decode_hello, decode_reset, decode_goaway, peek_route,
]  # fmt: skip
pack = msgspec.msgpack.encode


def payload(frame: bytes) -> bytes:
    return frame[HEADER_SIZE:]


@given(st.binary(max_size=255), requests)
def test_open_round_trip(route: bytes, sent: Request) -> None:
    encoded = payload(encode_open(1, 0, route, sent))
    assert (peek_route(encoded), decode_open(encoded)) == (route, sent)


@given(responses)
def test_head_round_trip(sent: Response) -> None:
    assert decode_response(payload(encode_response(1, 0, sent))) == sent


@given(headers)
def test_trailers_round_trip(sent: list[tuple[bytes, bytes]]) -> None:
    assert decode_trailers(payload(encode_end(1, sent))) == sent


def test_no_trailers_is_an_empty_payload() -> None:
    assert payload(encode_end(1, [])) == b""


def test_hello_round_trip() -> None:
    sent = Hello(
        version=1, agent="whook/1", peer="cli", instance="i", holder="ada@laptop", mode="watch",
        tunnel_id="tun_1", heartbeat=20.0, max_exchanges=7, nonce=b"\0\xff", proof=b"\1",
    )  # fmt: skip
    assert decode_hello(payload(encode_hello(sent))) == sent


def test_reset_and_goaway_round_trip() -> None:
    assert decode_reset(payload(encode_reset(1, ResetCode.DEADLINE, "late"))) == Reset(5, "late")
    assert decode_goaway(payload(encode_goaway(GoAwayCode.FULL, "full", 5.0))) == GoAway(9, "full", 5.0)


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.binary(max_size=80))
def test_only_a_protocol_error_escapes(decode: Callable[[bytes], Any], data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode(data)


DEEP = b"\x91" * 100_000 + b"\x01"
"""Arrays in arrays, deeper than any stack."""


@pytest.mark.parametrize(
    ("decode", "data"),
    [
        (decode_reset, b"\x92\x01\xa1\xff"),  # a text that is not UTF-8
        (decode_goaway, b"\x92\x01\xa1\xff"),
        (decode_open, b"\x00\x98\xa1\xff"),
        (decode_reset, b"\x93\x01\xa0" + DEEP),  # in a field that we do not know
        (decode_response, b"\x94\xcc\xc8\xc4\x00\x90" + DEEP),
        (decode_hello, b"\x81\xa1a" + DEEP),
        (decode_trailers, b"\xdd\xff\xff\xff\xff"),  # sizes that are not there
        (decode_trailers, b"\x91\x92\xc6\xff\xff\xff\xff"),
        (decode_hello, b"\xdf\xff\xff\xff\xff"),
        (decode_open, b""),
        (decode_open, b"\x05abc"),
        (peek_route, b""),
        (peek_route, b"\x05abc"),
        (decode_response, pack([99, b"", []])),
        (decode_response, pack([1000, b"", []])),
        (decode_response, pack([200, "", []])),
    ],
)
def test_payloads_that_hold_something_else(decode: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 86_401.0])
def test_times_that_no_clock_can_keep(seconds: float) -> None:
    hello = {"version": 1, "agent": "", "peer": "relay", "heartbeat": seconds}
    with pytest.raises(ProtocolError, match="heartbeat"):
        decode_hello(pack(hello))
    with pytest.raises(ProtocolError, match="asks to wait"):
        decode_goaway(pack([1, "", seconds]))


def test_a_newer_peer_adds_fields() -> None:
    more = [{"new": [1, 2]}, "later", None]
    assert decode_reset(pack([1, "m", *more])) == Reset(1, "m")
    assert decode_goaway(pack([1, "m", 2.0, *more])) == GoAway(1, "m", 2.0)
    assert decode_response(pack([200, b"OK", [], *more])) == Response(200, b"OK", [])
    fields = [*msgspec.structs.astuple(request()), *more]
    assert decode_open(bytes([len(ROUTE)]) + ROUTE + pack(fields)) == request()
    hello = {"version": 1, "agent": "a", "peer": "cli", "colour": {"deep": [1]}}
    assert decode_hello(pack(hello)) == Hello(version=1, agent="a", peer="cli")


def test_an_older_peer_lacks_fields() -> None:
    assert decode_reset(pack([4])) == Reset(4, "")
    assert decode_goaway(pack([1])) == GoAway(1, "", 0.0)
    assert decode_hello(pack({"version": 1, "agent": "a", "peer": "cli"})).mode == "exclusive"


def test_codes_of_a_newer_peer_are_kept() -> None:
    assert decode_reset(pack([77, ""])).code == 77
    assert decode_goaway(pack([77, ""])).code == 77


def test_heads_that_do_not_fit_a_frame() -> None:
    huge = [(b"x", bytes(MAX_PAYLOAD))]
    with pytest.raises(ValueError, match="does not fit"):
        encode_open(1, 0, ROUTE, msgspec.structs.replace(request(), headers=huge))
    with pytest.raises(ValueError, match="does not fit"):
        encode_response(1, 0, msgspec.structs.replace(response(), headers=huge))
    with pytest.raises(ValueError, match="does not fit"):
        encode_end(1, huge)
    with pytest.raises(ValueError, match="longer than 255"):
        encode_open(1, 0, b"x" * 256, request())


def test_the_largest_head_that_fits() -> None:
    overhead = len(payload(encode_response(1, 0, Response(200, b"", [(b"x", bytes(100_000))])))) - 100_000
    largest = Response(200, b"", [(b"x", bytes(MAX_PAYLOAD - overhead))])
    encoded = payload(encode_response(1, 0, largest))
    assert len(encoded) == MAX_PAYLOAD
    assert decode_response(encoded) == largest


def test_explanations_are_cut() -> None:
    assert len(decode_reset(payload(encode_reset(1, 1, "long " * 100_000))).message) == 1000
    assert len(decode_goaway(payload(encode_goaway(1, "long " * 100_000))).message) == 1000
