"""What any peer may send: in whatever pieces, and however wrong."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.wire_talk import Talk, frames
from whook.wire import MAX_PAYLOAD, ProtocolError, Role, encode_frame
from whook.wire.streams import Phase

streams = st.integers(1, 3)
end = st.sampled_from(["", " end"])
size = st.sampled_from(["'ab'", "'hello'", "0", "300", "70000"])
heads = st.builds("HEAD {} {}{}".format, streams, st.sampled_from([100, 101, 103, 200, 404]), end)
bodies = st.one_of(
    st.builds("DATA {} {}{}".format, streams, size, end),
    st.builds("END {}{}".format, streams, st.sampled_from(["", " sum"])),
    st.builds("RESET {} {}".format, streams, st.sampled_from(["CANCELLED", "INTERNAL"])),
    st.builds("CREDIT {} {}".format, streams, st.sampled_from([1, 1000, 262_144])),
)
texts = st.lists(
    st.one_of(
        bodies,
        heads,
        st.builds("OPEN {}{}{}".format, streams, st.sampled_from(["", " watch"]), end),
        st.sampled_from(["HELLO", "GOAWAY DRAIN"]),
    ),
    max_size=12,
)
cuts = st.lists(st.integers(0, 2000), max_size=6)
roles = st.sampled_from(Role)


def start(role: Role) -> Talk:
    """An endpoint with three streams, in different phases."""
    talk = Talk(role)
    if role is Role.OPENER:
        talk.open()
        talk.open(end=True)
        talk.open()
        talk.hear("HEAD 3 200")
    else:
        talk.hear("OPEN 1 end", "OPEN 2", "OPEN 3")
        talk.head(3, 200)
    return talk


def consistent(talk: Talk) -> None:
    for number, stream in talk.endpoint.streams.items():
        assert stream.id == number
        assert (stream.local, stream.remote) != (Phase.DONE, Phase.DONE)
        assert stream.watch or stream.window >= 0
        assert 0 <= stream.credit <= 1 << 30


def told(talk: Talk, pieces: list[bytes]) -> tuple[list[str], list[str], bool]:
    """Events, replies, and whether the link was ended."""
    events: list[str] = []
    try:
        for piece in pieces:
            events += talk.hear_bytes(piece)
            consistent(talk)
    except ProtocolError:
        return [], [], True
    replies = [each for each in events if each.startswith("→")]
    return [each for each in events if not each.startswith("→")], replies, False


@given(roles, texts, cuts)
def test_any_split_means_the_same(role: Role, sent: list[str], at: list[int]) -> None:
    data = frames(*sent)
    places = [0, *sorted(min(cut, len(data)) for cut in at), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    assert told(start(role), pieces) == told(start(role), [data])


@settings(max_examples=30)
@given(roles, texts)
def test_byte_by_byte_means_the_same(role: Role, sent: list[str]) -> None:
    data = frames(*(text for text in sent if "70000" not in text))
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert told(start(role), pieces) == told(start(role), [data])


@given(roles, texts, st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=5))
def test_mutated_bytes(role: Role, sent: list[str], changes: list[tuple[int, int]]) -> None:
    data = bytearray(frames(*sent) or b"\0")
    for place, value in changes:
        data[place % len(data)] = value
    told(start(role), [bytes(data)])


@given(roles, st.binary(max_size=300))
def test_random_bytes(role: Role, data: bytes) -> None:
    told(start(role), [data])


raw = st.tuples(st.integers(1, 9), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=30))


@given(roles, st.lists(raw, max_size=12))
def test_random_frames(role: Role, sent: list[tuple[int, int, int, bytes]]) -> None:
    told(start(role), [b"".join(encode_frame(*each) for each in sent)])


def test_a_stream_of_frames_that_never_ends_a_frame_is_bounded() -> None:
    talk = start(Role.ANSWERER)
    assert talk.hear_bytes(encode_frame(4, 0, 2, bytes(MAX_PAYLOAD))[:-1]) == []
    assert len(talk._reader._tail) < MAX_PAYLOAD + 10
