"""Answers made here: the default one, the chosen one, and problem documents."""

import json
from pathlib import Path

import pytest

from whook_cli.exits import UsageError
from whook_cli.respond import MAX_BODY, make_responder, problem


def test_the_default_answer_names_the_event() -> None:
    answer = make_responder(200, None).answer("evt_1", b"POST")
    assert answer.status == 200
    assert answer.reason == b"OK"
    assert json.loads(answer.body) == {"event_id": "evt_1"}
    assert answer.headers == [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(answer.body)),
    ]


def test_head_gets_the_head_alone() -> None:
    responder = make_responder(200, None)
    assert responder.answer("evt_1", b"HEAD").body == b""
    assert responder.answer("evt_1", b"HEAD").headers == responder.answer("evt_1", b"GET").headers


@pytest.mark.parametrize("status", [204, 205, 304])
def test_statuses_without_content_get_none(status: int) -> None:
    answer = make_responder(status, None).answer("evt_1", b"POST")
    assert (answer.headers, answer.body) == ([], b"")
    with pytest.raises(UsageError):
        make_responder(status, "x")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("hello", b"text/plain; charset=utf-8"),
        ('{"ok": true}', b"application/json"),
        ("", b"text/plain; charset=utf-8"),
    ],
)
def test_a_chosen_body(body: str, content_type: bytes) -> None:
    answer = make_responder(418, body).answer("evt_1", b"POST")
    assert answer.body == body.encode()
    assert answer.reason == b"I'm a Teapot"
    assert (b"Content-Type", content_type) in answer.headers


def test_a_status_nobody_named_has_no_reason() -> None:
    assert make_responder(599, None).answer("evt_1", b"POST").reason == b""


def test_a_body_from_a_file_is_sent_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "body.bin"
    path.write_bytes(b"\x00\xff\r\n")
    answer = make_responder(200, f"@{path}").answer("evt_1", b"POST")
    assert answer.body == b"\x00\xff\r\n"
    assert (b"Content-Type", b"application/octet-stream") in answer.headers


def test_files_that_cannot_be_sent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*missing"):
        make_responder(200, f"@{tmp_path}/missing")
    large = tmp_path / "large"
    large.write_bytes(bytes(MAX_BODY + 1))
    with pytest.raises(UsageError, match="larger"):
        make_responder(200, f"@{large}")


@pytest.mark.parametrize("status", [99, 100, 199, 600])
def test_only_final_statuses(status: int) -> None:
    with pytest.raises(UsageError, match=str(status)):
        make_responder(status, None)


def test_problem_documents() -> None:
    answer = problem("local-unreachable", "Local server unreachable", 'said "no"', "evt_1")
    assert answer.status == 502
    assert (b"Content-Type", b"application/problem+json") in answer.headers
    assert json.loads(answer.body) == {
        "type": "urn:whook:problem:local-unreachable",
        "title": "Local server unreachable",
        "status": 502,
        "detail": 'said "no"',
        "event_id": "evt_1",
    }
