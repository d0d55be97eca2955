"""JSON lines: stable keys, one line each, nothing a terminal could act on."""

import json

from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import captured, record
from whook_cli.records import CAPTURE, Capture, Details, StatusRecord, decode_text, json_line


def test_the_line_of_a_request() -> None:
    assert json.loads(json_line(record())) == {
        "event": "request",
        "time": "2023-11-14T22:13:20.250Z",
        "event_id": "evt_1",
        "attempt": 1,
        "client": "192.0.2.1",
        "method": "POST",
        "target": "/hook?a=1",
        "status": 200,
        "duration_ms": 12.5,
        "request_bytes": 10,
        "response_bytes": 20,
        "error": None,
        "watched": False,
        "origin": "live",
        "remaining": 0,
        "tunnel": "tun_7",
    }


def test_no_answer_and_a_long_one() -> None:
    lost = json.loads(json_line(record(status=0, error="gave up")))
    assert (lost["status"], lost["error"]) == (None, "gave up")
    assert json.loads(json_line(record(still_open=True)))["event"] == "open"


def test_verbose_adds_headers_and_bodies() -> None:
    details = Details(
        [(b"A", b"1"), (b"a", b"2")], captured(b"{}"), b"OK", [(b"B", b"\xff")], captured(b"\xff")
    )
    line = json.loads(json_line(record(details=details)))
    assert line["request_headers"] == [["A", "1"], ["a", "2"]]
    assert line["response_headers"] == [["B", "\\xff"]]
    assert (line["request_body"], line["request_body_truncated"]) == ("{}", False)
    assert (line["response_body"], line["response_body_truncated"]) == (None, False)


def test_a_long_body_is_cut_between_characters() -> None:
    body = captured(("ä" * CAPTURE).encode())
    assert len(body.data) == CAPTURE
    body = captured(("a" + "ä" * CAPTURE).encode())
    text = decode_text(body)
    assert text == "a" + "ä" * (CAPTURE // 2 - 1)
    line = json.loads(json_line(record(details=Details([], body, b"", [], captured(b"")))))
    assert line["request_body_truncated"]


def test_a_capture_counts_what_it_does_not_keep() -> None:
    capture = Capture()
    for _ in range(3):
        capture.add(bytes(CAPTURE // 2 + 1))
    assert (len(capture.data), capture.total) == (CAPTURE, 3 * (CAPTURE // 2 + 1))
    assert captured(b"a\0b").data == b"a\0b"
    assert decode_text(captured(b"a\0b")) is None


def test_the_line_of_a_status() -> None:
    status = StatusRecord(1_700_000_000.0, "lost", "text for people", {"reason": "gone"})
    assert json.loads(json_line(status)) == {
        "event": "lost",
        "time": "2023-11-14T22:13:20.000Z",
        "reason": "gone",
    }


@given(method=st.binary(), target=st.binary(), name=st.binary(), body=st.binary(), error=st.text())
def test_a_line_is_one_line_of_printable_ascii(
    method: bytes, target: bytes, name: bytes, body: bytes, error: str
) -> None:
    details = Details([(name, target)], captured(body), method, [(target, name)], captured(target))
    line = json_line(record(method=method, target=target, error=error, details=details))
    assert line.isascii()
    assert line.replace("\x7f", "").isprintable()
    assert "\x7f" not in line
    json.loads(line)
