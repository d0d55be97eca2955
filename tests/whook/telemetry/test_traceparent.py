"""Which trace an event belongs to: the sender's word where it is well formed, else arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook.telemetry.traceparent import HOPS, Trace, find_traceparent, span_id, trace_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{SPAN}-01".encode()
SENDERS = Trace(int(TRACE, 16), int(SPAN, 16))
EVENT = "evt_01M85NT3WM4QHJS51FET8QKBZV"


def test_the_senders_trace_counts() -> None:
    assert trace_of(EVENT, GIVEN, 1.0) == SENDERS
    assert trace_of(EVENT, GIVEN, 0.0) == SENDERS, "the sender has decided that it is recorded"


def test_what_the_sender_does_not_record_is_not_recorded() -> None:
    assert trace_of(EVENT, GIVEN[:-1] + b"0", 1.0) is None


def test_a_later_version_may_have_more() -> None:
    assert trace_of(EVENT, b"01" + GIVEN[2:] + b"-what-comes-then", 1.0) == SENDERS


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"ff" + GIVEN[2:],
        GIVEN + b"-more",
        GIVEN.upper(),
        GIVEN.replace(TRACE.encode(), b"0" * 32),
        GIVEN.replace(SPAN.encode(), b"0" * 16),
        GIVEN[:-1],
        GIVEN + b"1",
        GIVEN.replace(b"-", b"_"),
    ],
)
def test_what_is_malformed_counts_as_none(wrong: bytes) -> None:
    made = trace_of(EVENT, wrong, 1.0)
    assert made is not None
    assert (made.parent_id, made) == (0, trace_of(EVENT, b"", 1.0))


@given(event_id=st.text(), traceparent=st.binary(), share=st.floats(0, 1))
def test_no_sender_can_make_it_fail_and_all_hops_agree(
    event_id: str, traceparent: bytes, share: float
) -> None:
    trace = trace_of(event_id, traceparent, share)
    assert trace == trace_of(event_id, traceparent, share)
    if trace is not None:
        assert 0 < trace.trace_id < 1 << 128
        assert 0 <= trace.parent_id < 1 << 64


@given(event_id=st.text(), attempt=st.integers(1, 1000))
def test_each_hop_of_each_attempt_has_an_id_of_its_own(event_id: str, attempt: int) -> None:
    ids = {span_id(event_id, n, hop) for hop in HOPS for n in (attempt, attempt + 1)}
    assert len(ids) == 2 * len(HOPS) - 1, "all attempts have one ingress"
    assert all(0 < one < 1 << 64 for one in ids)


def test_only_a_single_field_counts() -> None:
    other = (b"Accept", b"*/*")
    assert find_traceparent([other, (b"TraceParent", b" " + GIVEN)]) == GIVEN
    assert find_traceparent([(b"traceparent", GIVEN), (b"traceparent", GIVEN)]) == b""
    assert find_traceparent([other]) == b""
