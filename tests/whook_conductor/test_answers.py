"""The refusals a sender may see: their types are an interface, their bytes must be HTTP."""

from __future__ import annotations

import json

import pytest

from whook.wire import ResetCode
from whook_conductor import answers
from whook_conductor.answers import Answer, answer_to_reset, bad_message, encode_answer

EVERY = [value for value in vars(answers).values() if isinstance(value, Answer)]


def split(response: bytes) -> tuple[list[bytes], bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


@pytest.mark.parametrize("answer", EVERY, ids=lambda answer: answer.slug)
def test_every_answer_is_a_problem_with_its_length(answer: Answer) -> None:
    lines, body = split(encode_answer(answer))
    problem = json.loads(body)
    assert lines[0].startswith(b"HTTP/1.1 %d " % answer.status)
    assert b"Content-Type: application/problem+json" in lines
    assert b"Content-Length: %d" % len(body) in lines
    assert problem["type"] == f"urn:whook:problem:{answer.slug}"
    assert problem["status"] == answer.status
    assert answer.status != 503 or any(line.startswith(b"Retry-After: ") for line in lines)


def test_the_slugs_are_all_different() -> None:
    slugs = [answer.slug for answer in EVERY]
    assert len(slugs) == len(set(slugs))


def test_the_answer_to_head_keeps_the_length_and_drops_the_body() -> None:
    lines, body = split(encode_answer(answers.NO_TUNNEL, head_only=True))
    assert body == b""
    assert not any(line == b"Content-Length: 0" for line in lines)


def test_close_and_event_id_are_said() -> None:
    lines, body = split(encode_answer(answers.TUNNEL_LOST, close=True, event_id="evt_1"))
    assert b"Connection: close" in lines
    assert json.loads(body)["event_id"] == "evt_1"


@pytest.mark.parametrize(
    ("code", "slug"),
    [
        (ResetCode.NO_TUNNEL, "no-tunnel"),
        (ResetCode.DRAINING, "no-tunnel"),
        (ResetCode.OVERLOADED, "overloaded"),
        (ResetCode.TUNNEL_LOST, "tunnel-lost"),
        (ResetCode.DEADLINE, "deadline-exceeded"),
        (ResetCode.TOO_LARGE, "body-too-large"),
        (ResetCode.INTERNAL, "no-answer"),
        (4711, "no-answer"),
    ],
)
def test_a_reset_has_an_answer(code: int, slug: str) -> None:
    assert answer_to_reset(code).slug == slug


def test_a_bad_message_keeps_the_parsers_words() -> None:
    lines, body = split(encode_answer(bad_message(431, "head-too-large", "The head is too long.")))
    assert lines[0].startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["detail"] == "The head is too long."
