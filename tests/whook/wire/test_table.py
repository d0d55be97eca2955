"""Every frame in every phase, at both ends: what becomes of the stream."""

from __future__ import annotations

import pytest

from tests.support.wire_talk import Talk, answerer, opener
from whook.wire import ProtocolError

LINK = "ends the link"
FAULT = ["reset 1 PROTOCOL", "→ RESET 1 PROTOCOL"]

FRAMES = [
    "OPEN 1", "OPEN 1 end", "HEAD 1 103", "HEAD 1 103 end", "HEAD 1 101", "HEAD 1 200", "HEAD 1 200 end",
    "DATA 1 'b'", "DATA 1 'b' end", "END 1", "RESET 1 CANCELLED", "CREDIT 1 9",
]  # fmt: skip

#: Phase of the peer's direction and of ours → what each of FRAMES leads to.
#: A list: the events and replies. After it: the peer's phase now, or None when the stream is forgotten.
Row = list[tuple[list[str], str | None] | str]

GIVEN_UP: tuple[list[str], None] = (["reset 1 CANCELLED"], None)
FAULTY: tuple[list[str], None] = (FAULT, None)


def credited(phase: str, *, sending: bool) -> tuple[list[str], str]:
    return (["credit 1"] if sending else [], phase)


def in_head(*, sending: bool) -> Row:
    ended = "done" if sending else None
    return [
        LINK, LINK, (["head 1 103"], "head"), FAULTY, (["head 1 101"], "body"), (["head 1 200"], "body"),
        (["head 1 200 end"], ended), FAULTY, FAULTY, FAULTY, GIVEN_UP, credited("head", sending=sending),
    ]  # fmt: skip


def in_body(*, sending: bool) -> Row:
    ended = "done" if sending else None
    return [
        LINK, LINK, FAULTY, FAULTY, FAULTY, FAULTY, FAULTY, (["data 1 'b'"], "body"),
        (["data 1 'b' end"], ended), (["ended 1"], ended), GIVEN_UP, credited("body", sending=sending),
    ]  # fmt: skip


def done() -> Row:
    return [LINK, LINK, *[FAULTY] * 8, GIVEN_UP, credited("done", sending=True)]


FORGOTTEN: Row = [LINK, LINK, *[([], None)] * 10]


def conductor(*heard: str, sending: bool) -> Talk:
    talk = opener()
    talk.open(end=not sending)
    talk.hear(*heard)
    return talk


def client(opening: str, *, head: bool = False, end: bool = False) -> Talk:
    talk = answerer()
    talk.hear(opening)
    if head:
        talk.head(1, 200, end=end)
    return talk


def states() -> dict[str, tuple[Talk, Row]]:
    return {
        "conductor: head, sending": (conductor(sending=True), in_head(sending=True)),
        "conductor: head, sent": (conductor(sending=False), in_head(sending=False)),
        "conductor: head after 103": (conductor("HEAD 1 103", sending=True), in_head(sending=True)),
        "conductor: body, sending": (conductor("HEAD 1 200", sending=True), in_body(sending=True)),
        "conductor: body, sent": (conductor("HEAD 1 200", sending=False), in_body(sending=False)),
        "conductor: upgraded": (conductor("HEAD 1 101", sending=True), in_body(sending=True)),
        "conductor: done, sending": (conductor("HEAD 1 200 end", sending=True), done()),
        "conductor: done, sent": (conductor("HEAD 1 200 end", sending=False), FORGOTTEN),
        "client: body, to answer": (client("OPEN 1"), in_body(sending=True)),
        "client: body, answering": (client("OPEN 1", head=True), in_body(sending=True)),
        "client: body, answered": (client("OPEN 1", head=True, end=True), in_body(sending=False)),
        "client: done, to answer": (client("OPEN 1 end"), done()),
        "client: done, answering": (client("OPEN 1 end", head=True), done()),
        "client: done, answered": (client("OPEN 1 end", head=True, end=True), FORGOTTEN),
        "client: onlooker, body": (client("OPEN 1 watch"), in_body(sending=False)),
        "client: onlooker, done": (client("OPEN 1 watch end"), FORGOTTEN),
    }


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("state", list(states()))
def test_frame_in_phase(state: str, frame: str) -> None:
    talk, row = states()[state]
    assert len(row) == len(FRAMES)
    expected = row[FRAMES.index(frame)]
    if isinstance(expected, str):
        with pytest.raises(ProtocolError):
            talk.hear(frame)
        return
    events, phase = expected
    assert talk.hear(frame) == events
    stream = talk.endpoint.streams.get(1)
    assert (stream and stream.remote.value) == phase
