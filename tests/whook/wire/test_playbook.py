"""Conversations, as each end sees them. What we do or hear stands left, what we send or make of it right."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.wire_talk import ROUTE, Talk, answerer, frame, opener, request, response
from whook.wire import (
    INITIAL_CREDIT,
    MAX_PAYLOAD,
    MAX_STREAM_ID,
    CreditExceeded,
    ProtocolError,
    ResetCode,
    StreamClosed,
    StreamsExhausted,
    encode_frame,
    encode_response,
)
from whook.wire.frames import CREDIT, OPEN

HALF = INITIAL_CREDIT // 2


def test_a_small_webhook_seen_by_the_conductor() -> None:
    we = opener()
    assert we.open() == ["OPEN 1"]
    assert we.data(1, b"body", end=True) == ["DATA 1 'body' end"]
    assert we.hear("HEAD 1 200", "DATA 1 'ok' end") == ["head 1 200", "data 1 'ok' end"]
    assert we.open_streams == []


def test_a_small_webhook_seen_by_the_client() -> None:
    we = answerer()
    assert we.hear("OPEN 1", "DATA 1 'body' end") == ["opened 1", "data 1 'body' end"]
    assert we.head(1, 200) == ["HEAD 1 200"]
    assert we.open_streams == [1]
    assert we.data(1, b"ok", end=True) == ["DATA 1 'ok' end"]
    assert we.open_streams == []


def test_without_bodies_one_frame_each_way_is_enough() -> None:
    conductor, client = opener(), answerer()
    assert conductor.open(end=True) == ["OPEN 1 end"]
    assert client.hear("OPEN 1 end") == ["opened 1 end"]
    assert client.head(1, 204, end=True) == ["HEAD 1 204 end"]
    assert conductor.hear("HEAD 1 204 end") == ["head 1 204 end"]
    assert conductor.open_streams == client.open_streams == []


def test_trailers_both_ways() -> None:
    we = answerer()
    assert we.hear("OPEN 1", "DATA 1 'a'", "END 1 sum") == ["opened 1", "data 1 'a'", "ended 1 sum"]
    assert [*we.head(1, 200), *we.end(1, "mus")] == ["HEAD 1 200", "END 1 mus"]
    assert we.open_streams == []


def test_informational_heads_come_before_the_final_one() -> None:
    conductor, client = opener(), answerer()
    conductor.open()
    client.hear("OPEN 1")
    assert client.head(1, 100) + client.head(1, 103) + client.head(1, 200) == [
        "HEAD 1 100", "HEAD 1 103", "HEAD 1 200",
    ]  # fmt: skip
    assert conductor.hear("HEAD 1 100", "HEAD 1 103", "HEAD 1 200") == [
        "head 1 100",
        "head 1 103",
        "head 1 200",
    ]
    with pytest.raises(StreamClosed):
        client.head(1, 200)


def test_an_upgrade_leaves_raw_bytes_both_ways_and_half_closes() -> None:
    we = answerer()
    assert we.hear("OPEN 1") == ["opened 1"]
    assert we.head(1, 101) == ["HEAD 1 101"]
    assert we.hear("DATA 1 'ping'") == ["data 1 'ping'"]
    assert we.data(1, b"pong") == ["DATA 1 'pong'"]
    assert we.end(1) == ["END 1"]
    assert we.hear("DATA 1 'more'", "END 1") == ["data 1 'more'", "ended 1"]
    assert we.open_streams == []


def test_a_response_may_end_before_its_request() -> None:
    we = opener()
    we.open()
    assert we.hear("HEAD 1 413 end") == ["head 1 413 end"]
    assert we.data(1, b"rest") == ["DATA 1 'rest'"]
    assert we.end(1) == ["END 1"]
    assert we.open_streams == []


def test_streams_interleave() -> None:
    we = opener()
    assert we.open(end=True) + we.open(end=True) == ["OPEN 1 end", "OPEN 2 end"]
    assert we.hear("HEAD 2 200", "HEAD 1 201", "DATA 2 'b' end", "DATA 1 'a' end") == [
        "head 2 200", "head 1 201", "data 2 'b' end", "data 1 'a' end",
    ]  # fmt: skip
    assert we.open_streams == []


def test_we_give_up() -> None:
    we = opener()
    we.open()
    assert we.reset(1) == ["RESET 1 CANCELLED"]
    assert we.reset(1) == []  # once is enough
    assert we.open_streams == []
    assert we.hear("HEAD 1 200", "DATA 1 'late'", "CREDIT 1 5", "RESET 1 CANCELLED") == []  # crossed ours
    with pytest.raises(StreamClosed):
        we.data(1, b"x")
    with pytest.raises(StreamClosed):
        we.end(1)
    with pytest.raises(StreamClosed):
        we.head(1, 200)


def test_the_peer_gives_up() -> None:
    we = answerer()
    assert we.hear("OPEN 1", "RESET 1 DEADLINE") == ["opened 1", "reset 1 DEADLINE"]
    assert we.open_streams == []
    assert we.reset(1) == []
    with pytest.raises(StreamClosed):
        we.head(1, 200)


def test_credit_runs_out_and_comes_back() -> None:
    we = opener()
    we.open()
    we.data(1, INITIAL_CREDIT - 1)
    with pytest.raises(CreditExceeded):
        we.data(1, 2)
    assert we.data(1, 1) == ["DATA 1 1"]
    assert we.hear("CREDIT 1 3") == ["credit 1"]
    assert we.data(1, 3) == ["DATA 1 3"]
    assert we.data(1, b"", end=True) == ["DATA 1 0 end"]  # an end needs no credit


def test_taking_data_grants_credit_by_the_half_window() -> None:
    we = answerer()
    we.hear("OPEN 1", f"DATA 1 {INITIAL_CREDIT}")
    assert we.take(1, HALF - 1) == []
    assert we.take(1, 2) == [f"CREDIT 1 {HALF + 1}"]
    assert we.hear(f"DATA 1 {HALF + 1}") == [f"data 1 {HALF + 1}"]
    assert we.hear("DATA 1 1") == ["reset 1 PROTOCOL", "→ RESET 1 PROTOCOL"]


def test_no_credit_is_granted_for_what_has_ended() -> None:
    we = answerer()
    we.hear("OPEN 1", f"DATA 1 {INITIAL_CREDIT} end")
    assert we.take(1, INITIAL_CREDIT) == []


def test_credit_for_a_direction_that_has_ended_is_no_news() -> None:
    we = opener()
    we.open(end=True)
    assert we.hear("CREDIT 1 5") == []


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\0", b"\1", b"\0\0\0\0\1", (1 << 30).to_bytes(4, "big")])
def test_impossible_credit(payload: bytes) -> None:
    we = opener()
    we.open()
    assert we.hear_bytes(encode_frame(CREDIT, 0, 1, payload)) == ["reset 1 PROTOCOL", "→ RESET 1 PROTOCOL"]


def test_an_onlooker_is_not_under_credit_and_says_nothing() -> None:
    we = answerer()
    assert we.hear("OPEN 1 watch") == ["opened 1 watch"]
    assert we.hear(f"DATA 1 {MAX_PAYLOAD}", f"DATA 1 {MAX_PAYLOAD}") == [f"data 1 {MAX_PAYLOAD}"] * 2
    assert we.take(1, 2 * MAX_PAYLOAD) == []
    with pytest.raises(StreamClosed):
        we.head(1, 200)
    assert we.hear("END 1") == ["ended 1"]
    assert we.hear("OPEN 2 watch end") == ["opened 2 watch end"]
    assert we.open_streams == []


def test_empty_data_is_no_news_unless_it_ends() -> None:
    we = answerer()
    assert we.hear("OPEN 1", *["DATA 1 0"] * 100) == ["opened 1"]
    assert we.hear("DATA 1 0 end") == ["data 1 0 end"]


def test_informational_heads_are_bounded() -> None:
    we = opener()
    we.open()
    long = encode_long_head(103, 100_000)
    assert we.hear_bytes(long + long) == ["head 1 103"] * 2
    assert we.hear_bytes(long) == ["reset 1 PROTOCOL", "→ RESET 1 PROTOCOL"]


def encode_long_head(status: int, size: int) -> bytes:
    return encode_response(1, 0, msgspec.structs.replace(response(status), headers=[(b"Link", bytes(size))]))


def test_a_fault_costs_its_stream_and_no_other() -> None:
    we = opener()
    we.open(end=True)
    we.open(end=True)
    assert we.hear("HEAD 1 200", "HEAD 1 200", "DATA 1 'late'", "HEAD 2 200 end") == [
        "head 1 200", "reset 1 PROTOCOL", "head 2 200 end", "→ RESET 1 PROTOCOL",
    ]  # fmt: skip
    assert we.open_streams == []


def test_an_open_that_cannot_be_read_is_refused_and_its_id_is_used_up() -> None:
    we = answerer()
    assert we.hear_bytes(encode_frame(OPEN, 0, 1, b"\0junk")) == ["→ RESET 1 PROTOCOL"]
    assert we.hear("DATA 1 'body'", "OPEN 2") == ["opened 2"]
    with pytest.raises(ProtocolError, match="opened before"):
        we.hear("OPEN 1")


@pytest.mark.parametrize("talk", [opener(), answerer()])
def test_the_link_itself(talk: Talk) -> None:
    assert talk.hear("HELLO", "GOAWAY DRAIN") == ["hello", "goaway DRAIN"]
    for kind in ("OPEN 0", "HEAD 0 200", "DATA 0 'x'", "END 0", "RESET 0 CANCELLED", "CREDIT 0 1"):
        with pytest.raises(ProtocolError):
            talk.hear(kind)


def test_streams_are_opened_by_the_opener_with_rising_ids() -> None:
    with pytest.raises(ProtocolError, match="only the opener"):
        opener().hear("OPEN 1")
    with pytest.raises(RuntimeError, match="only the opener"):
        answerer().open()
    client = answerer()
    assert client.hear("OPEN 5", "OPEN 9") == ["opened 5", "opened 9"]  # gaps are the peer's business
    with pytest.raises(ProtocolError, match="opened before"):
        client.hear("OPEN 9")


@pytest.mark.parametrize("kind", ["HEAD 3 200", "DATA 3 'x'", "END 3", "RESET 3 CANCELLED", "CREDIT 3 1"])
@pytest.mark.parametrize("talk", [opener(), answerer()])
def test_a_stream_that_was_never_opened_ends_the_link(talk: Talk, kind: str) -> None:
    with pytest.raises(ProtocolError, match="never opened"):
        talk.hear(kind)


def test_ids_run_out() -> None:
    we = opener()
    we.endpoint._last_id = MAX_STREAM_ID - 1
    assert we.open(end=True) == [f"OPEN {MAX_STREAM_ID} end"]
    with pytest.raises(StreamsExhausted):
        we.open()


def test_what_does_not_fit_changes_nothing() -> None:
    huge = [(b"x", bytes(MAX_PAYLOAD))]
    conductor, client = opener(), answerer()
    with pytest.raises(ValueError, match="does not fit"):
        conductor.endpoint.open(ROUTE, msgspec.structs.replace(request(), headers=huge), end=True)
    assert conductor.open() == ["OPEN 1"]
    client.hear("OPEN 1 end")
    with pytest.raises(ValueError, match="does not fit"):
        client.endpoint.send_head(client.known[1], msgspec.structs.replace(response(), headers=huge))
    with pytest.raises(ValueError, match="informational"):
        client.head(1, 100, end=True)
    assert client.head(1, 200) == ["HEAD 1 200"]
    with pytest.raises(ValueError, match="does not fit"):
        client.endpoint.send_end(client.known[1], huge)
    with pytest.raises(CreditExceeded):
        client.data(1, MAX_PAYLOAD + 1)
    assert client.end(1) == ["END 1"]


def test_a_reset_that_cannot_be_read_still_ends_the_stream() -> None:
    we = answerer()
    we.hear("OPEN 1")
    broken = frame("RESET 1 CANCELLED")[:10].replace(b"\0\0\0\3", b"\0\0\0\1", 1) + b"\xc1"
    assert we.hear_bytes(broken) == ["reset 1 PROTOCOL", "→ RESET 1 PROTOCOL"]
    assert we.open_streams == []


def test_reasons_have_names() -> None:
    assert [code.name for code in ResetCode] == [
        "CANCELLED", "OVERLOADED", "NO_TUNNEL", "TUNNEL_LOST", "DEADLINE", "PROTOCOL", "LOCAL_FAILED",
        "TOO_LARGE", "INTERNAL", "DRAINING",
    ]  # fmt: skip
