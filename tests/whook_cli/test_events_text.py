"""What the commands about events read and print: times, paces, lines and blocks that are always harmless."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.events import content, delivery, exported
from whook_cli.app import run
from whook_cli.events_api import Answered, Content
from whook_cli.events_message import read_message
from whook_cli.events_show import Look, event_line
from whook_cli.events_time import parse_speed, parse_time
from whook_cli.exits import Exit, ExitCode, UsageError

NOW = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("30s", timedelta(seconds=30)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("3D", timedelta(days=3)),
        ("1w", timedelta(weeks=1)),
    ],
)
def test_so_long_ago(text: str, ago: timedelta) -> None:
    assert parse_time(text, "--since", NOW) == NOW - ago


@pytest.mark.parametrize(
    "text", ["2026-11-23T19:00:00Z", "2026-11-23T20:00+01:00", "2026-11-23 19:00:00.000+00:00"]
)
def test_points_in_time(text: str) -> None:
    assert parse_time(text, "--since", NOW) == NOW - timedelta(hours=1)


def test_a_time_without_an_offset_is_local() -> None:
    assert parse_time("2026-11-23T20:00", "--since", NOW) == datetime(2026, 11, 23, 20).astimezone()
    assert parse_time("2026-11-23", "--since", NOW) == datetime(2026, 11, 23).astimezone()


@pytest.mark.parametrize("text", ["", "2", "h", "2y", "-2h", "2h3m", "yesterday", "2026-13-01", "1234567h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="--until"):
        parse_time(text, "--until", NOW)


def test_paces() -> None:
    assert (parse_speed("1x"), parse_speed("0.5X"), parse_speed("max")) == (1.0, 0.5, math.inf)
    for text in ("", "0x", "x", "-1x", "fast", "1", "1e3x"):
        with pytest.raises(UsageError, match="--speed"):
            parse_speed(text)


HOSTILE = exported(
    [(b"Host", b"h"), (b"X-Evil", b"\x1b[31m\xe2\x80\xae"), (b"Content-Length", b"9")],
    "\x1b]0;a\x07漢\u202e".encode(),
    target=b"/\x1b[2J",
    history=[
        delivery(
            response=Answered(
                200, "O\x9bK", [("A\x1b", "\x1b[H"), ("Content-Type", "text/plain")], content(b"\x1b[1m"), []
            ),
            problem="\x1b[0m",
        )
    ],
).event  # fmt: skip


@pytest.mark.parametrize("colour", [False, True])
def test_nothing_that_was_sent_reaches_the_terminal_as_it_is(colour: bool) -> None:
    look = Look(colour=colour)
    for text in (look.line(HOSTILE), look.block(HOSTILE)):
        for own in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m"):
            text = text.replace(own, "")
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "\\x1b[2J" in text
    assert "漢\\u202e" in Look(colour=False).block(HOSTILE)


def test_a_block_says_everything() -> None:
    event = exported(
        [(b"Host", b"h"), (b"Content-Type", b"application/json"), (b"Content-Length", b"7")],
        b'{"a":1}',
        history=[
            delivery(status=None, response=None, to_head=None, problem="tunnel-lost"),
            delivery(attempt=2, origin="replay"),
        ],
    ).event
    text = Look(colour=False).block(event)
    for part in (
        "POST /hook HTTP/1.1",
        "> Content-Type: application/json",
        '      "a": 1',
        "delivery 1 (live)",
        "no response",
        "tunnel-lost",
        "delivery 2 (replay)",
        "< 200 OK",
        "took 34 ms, head after 12 ms",
        "    fine",
    ):
        assert part in text, text


def test_a_body_that_is_not_part_of_the_answer_is_named() -> None:
    event = exported([(b"Host", b"h"), (b"Content-Length", b"1")], b"1").event
    event.request.body = Content(300_000, None, None)
    assert "(300 kB of body: not shown here)" in Look(colour=False).block(event)


def test_a_json_line_has_the_keys_of_the_api() -> None:
    event = exported([(b"Host", b"h")], target=b"/\xe9").event
    line = event_line(event)
    assert line.isascii()
    told = json.loads(line)
    assert told["target"] == "/\xe9"
    assert told["received_at"] == "2026-11-23T20:00:00Z"


def test_what_is_no_message_is_an_exit() -> None:
    for raw in (b"", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n1", b"nonsense\r\n\r\n"):
        with pytest.raises(Exit) as caught:
            read_message(raw)
        assert caught.value.code == ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    "words",
    [
        "list",
        "tail",
        "list shop --since yesterday",
        "list shop --limit 0",
        "list shop --status lost",
        "show evt_1 --raw --body",
        "replay",
        "replay evt_1 --since 2h",
        "replay --since 2h",
        "replay evt_1 --speed fast",
        "replay evt_1 --to ftp://h",
        "export",
        "export evt_1 --format pdf",
    ],
)
def test_what_cannot_be_asked_is_one_line(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WHOOK_TOKEN", "whk_nobody")
    monkeypatch.setenv("WHOOK_SERVER", "http://127.0.0.1:1")
    monkeypatch.delenv("WHOOK_PROJECT", raising=False)
    assert run(["events", *words.split()]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("whook: ")
    assert said.err.count("\n") == 1
