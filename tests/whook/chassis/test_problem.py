"""Problem details: members, escaping, and the raw response around them."""

import json

import pytest

from whook.chassis.problem import ProblemError, problem, raw_response


def test_has_the_standard_members() -> None:
    assert json.loads(problem(503, "no-tunnel", "Nobody is connected", "Project shop has no tunnel.")) == {
        "type": "urn:whook:problem:no-tunnel",
        "title": "Nobody is connected",
        "status": 503,
        "detail": "Project shop has no tunnel.",
    }


def test_takes_the_title_from_the_status() -> None:
    assert json.loads(problem(404, "unknown-project"))["title"] == "Not Found"
    assert json.loads(problem(599, "odd"))["title"] == "Error"


def test_carries_extensions() -> None:
    body = json.loads(problem(409, "held", event_id="evt_1", holder={"agent": "é\n"}))
    assert body["event_id"] == "evt_1"
    assert body["holder"] == {"agent": "é\n"}


@pytest.mark.parametrize("slug", ["", "No-Tunnel", "no tunnel", "no_tunnel", "-a", "a--b", "a\n"])
def test_refuses_malformed_slugs(slug: str) -> None:
    with pytest.raises(ValueError, match="slug"):
        problem(400, slug)


def test_refuses_extensions_that_hide_a_member() -> None:
    with pytest.raises(ValueError, match="type"):
        problem(400, "bad", type="about:blank")


def test_error_carries_its_answer() -> None:
    error = ProblemError(503, "overloaded", detail="Try later.", retry_after=3, limit="exchanges")
    assert json.loads(error.body)["limit"] == "exchanges"
    assert dict(error.headers) == {b"content-type": b"application/problem+json", b"retry-after": b"3"}
    assert str(error) == "Try later."


def test_raw_response_is_whole() -> None:
    body = problem(503, "overloaded")
    head, _, rest = raw_response(503, body, [(b"Retry-After", b"1")]).partition(b"\r\n\r\n")
    assert rest == body
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 503 Service Unavailable",
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(body),
        b"Retry-After: 1",
        b"Connection: close",
    ]
