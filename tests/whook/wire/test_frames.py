"""Frames: cut from any pieces, refused when they are none, and nothing but ProtocolError ever."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook.wire import DATA, HEADER, HEADER_SIZE, MAX_PAYLOAD, PING, Frame, FrameReader, encode_frame
from whook.wire.errors import ProtocolError

frames = st.tuples(
    st.integers(1, 9), st.integers(0, 255), st.integers(0, 0xFFFF_FFFF), st.binary(max_size=60)
)


def test_layout() -> None:
    assert encode_frame(DATA, 1, 0x01020304, b"hi") == b"\0\0\0\2\4\1\1\2\3\4hi"


@given(st.lists(frames), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(encode_frame(*each) for each in sent)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = FrameReader()
    received = [frame for start, end in itertools.pairwise(places) for frame in reader.feed(data[start:end])]
    assert received == sent
    assert not reader.partial


@given(st.lists(frames, min_size=1))
def test_byte_by_byte(sent: list[Frame]) -> None:
    reader = FrameReader()
    data = b"".join(encode_frame(*each) for each in sent)
    assert [frame for at in range(len(data)) for frame in reader.feed(data[at : at + 1])] == sent


@given(frames)
def test_partial_until_the_last_byte(frame: Frame) -> None:
    reader = FrameReader()
    assert not reader.partial
    data = encode_frame(*frame)
    assert reader.feed(data[:-1]) == []
    assert reader.partial
    assert reader.feed(data[-1:]) == [frame]
    assert not reader.partial


@given(st.binary(max_size=200))
def test_only_a_protocol_error_escapes(data: bytes) -> None:
    reader = FrameReader()
    try:
        for at in range(len(data)):
            reader.feed(data[at : at + 1])
    except ProtocolError:
        pass


def test_a_payload_may_be_as_long_as_the_limit_and_no_longer() -> None:
    reader = FrameReader()
    (frame,) = reader.feed(encode_frame(DATA, 0, 1, bytes(MAX_PAYLOAD)))
    assert len(frame[3]) == MAX_PAYLOAD
    with pytest.raises(ProtocolError, match="262145 bytes is above"):
        reader.feed(HEADER.pack(MAX_PAYLOAD + 1, DATA, 0, 1))  # refused by its header, before it is buffered


@pytest.mark.parametrize("kind", [0, PING + 1, 255])
def test_unknown_type(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"unknown frame type {kind}"):
        FrameReader().feed(HEADER.pack(0, kind, 0, 1))


def test_a_header_is_not_judged_before_it_is_whole() -> None:
    reader = FrameReader()
    header = HEADER.pack(0xFFFF_FFFF, 77, 0, 1)
    assert reader.feed(header[: HEADER_SIZE - 1]) == []
    with pytest.raises(ProtocolError):
        reader.feed(header[-1:])
