"""What is printed: lines, blocks, streams, colours; and that a slow or closed output holds up nobody."""

import io
import json
import os
import re
import threading

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.support.deadlines import DEADLINE
from tests.support.records import ANSI, captured, record
from whook_cli import display as display_module
from whook_cli.display import MAX_WAITING, Painter, open_display, wants_colour
from whook_cli.records import Details, StatusRecord


def test_a_request_is_one_line() -> None:
    line = Painter(colour=False).paint(record())
    assert re.fullmatch(r"\d\d:\d\d:\d\d POST   /hook\?a=1 +200    12 ms  10 B → 20 B  evt_1", line), line


def test_colours_add_nothing_but_colours() -> None:
    plain, coloured = (Painter(colour=c).paint(record(error="no", attempt=3)) for c in (False, True))
    assert coloured != plain
    assert ANSI.sub("", coloured) == plain
    assert plain.endswith("(attempt 3)  no")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"status": 0, "error": "gave up"}, " ---  "),
        ({"watched": True, "status": 0}, " watched "),
        ({"still_open": True, "status": 101}, " 101     open "),
        ({"target": b"/" + b"x" * 500}, "x… "),
    ],
)
def test_other_lines(changes: dict[str, object], part: str) -> None:
    assert part in Painter(colour=False).paint(record(**changes))


hostile = st.one_of(
    st.binary(), st.sampled_from([b"\x1b]0;t\x07", b"\r\n\x1b[2J", b"\xc2\x9b31m", "\u202e".encode()])
)


@given(raw=hostile, other=hostile, colour=st.booleans(), error=st.text())
def test_nothing_a_sender_writes_reaches_the_terminal_as_a_control(
    raw: bytes, other: bytes, colour: bool, error: str
) -> None:
    details = Details([(raw, other)], captured(raw), other, [(other, raw)], captured(b'{"a":"' + raw + b'"}'))
    text = Painter(colour=colour).paint(record(method=raw, target=other, error=error, details=details))
    for line in ANSI.sub("", text).split("\n"):
        assert line.isprintable()


def test_hostile_status_texts_are_harmless_too() -> None:
    status = StatusRecord(0.0, "lost", "lost: \x1b[2J\x07", {})
    assert "\x1b" not in Painter(colour=False).paint(status)


async def test_lines_for_people_come_in_order_and_all_before_the_end() -> None:
    out, err = io.StringIO(), io.StringIO()
    async with open_display(as_json=False, out=out, err=err) as display:
        display.status("ready", "ready: https://x")
        for i in range(100):
            display.show(record(event_id=f"evt_{i}"))
    lines = out.getvalue().splitlines()
    assert lines[0].endswith("ready: https://x")
    assert [line.split()[-1] for line in lines[1:]] == [f"evt_{i}" for i in range(100)]
    assert err.getvalue() == ""


async def test_json_goes_to_standard_output_and_status_to_both() -> None:
    out, err = io.StringIO(), io.StringIO()
    async with open_display(as_json=True, out=out, err=err) as display:
        display.status("lost", "the tunnel is lost", reason="gone")
        display.show(record())
    lost, request = map(json.loads, out.getvalue().splitlines())
    assert (lost["event"], lost["reason"]) == ("lost", "gone")
    assert request["event_id"] == "evt_1"
    assert err.getvalue().endswith("the tunnel is lost\n")


class Stuck(io.StringIO):
    """An output that takes nothing until it is released, as a paused terminal does."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.released.wait(DEADLINE)
        return super().write(text)


async def test_a_paused_output_delays_nobody_and_bounds_memory() -> None:
    out = Stuck()
    async with open_display(as_json=False, out=out, err=out) as display:
        display.show(record(event_id="first"))
        await trio.to_thread.run_sync(out.entered.wait, DEADLINE)
        count = MAX_WAITING // record().weight + 1000
        for _ in range(count):
            display.show(record())
        out.released.set()
    lines = out.getvalue().splitlines()
    assert len(lines) < count
    left_out = int(lines[-1].split()[1])
    assert "not shown" in lines[-1]
    assert left_out + len(lines) - 2 == count


async def test_an_output_that_stays_stuck_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "FLUSH_TIME", 0.05)
    out = Stuck()
    with trio.fail_after(DEADLINE):
        async with open_display(as_json=False, out=out, err=out) as display:
            display.show(record())
    out.released.set()


async def test_a_reader_that_is_gone_is_noticed() -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as out:  # noqa: ASYNC230, PTH123 a file descriptor
        with trio.fail_after(DEADLINE):
            async with open_display(as_json=False, out=out, err=out) as display:
                display.show(record())
                await display.broken.wait()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)  # so that closing has somewhere to flush to


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_who_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())
