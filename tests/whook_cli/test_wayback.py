"""Where the next tunnel is asked for: at the relay of the last one, or at the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from whook_cli.api import Grant
from whook_cli.wayback import LEAST, PATIENCE, Failure, WayBack, failure_of

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def granted(lifetime: float = 3600.0, expires_at: str = "") -> tuple[WayBack, Grant]:
    expires_at = expires_at or (NOW + timedelta(seconds=lifetime)).isoformat()
    way, grant = WayBack(lambda: NOW), Grant("ws://relay", "jwt", "prj_1", "http://shop", expires_at)
    way.granted(grant)
    return way, grant


def test_a_session_begins_at_the_api() -> None:
    assert WayBack().grant() is None


def test_a_lost_connection_leads_to_the_same_relay() -> None:
    way, grant = granted()
    way.lost(told=False)
    assert way.grant() is grant


def test_a_relay_that_sends_away_is_not_asked_first() -> None:
    way, grant = granted()
    way.lost(told=True)
    assert way.grant() is None
    way.unanswered()  # the API knows no other place
    assert way.grant() is grant


@pytest.mark.parametrize("lifetime", [LEAST, LEAST - 1, 0, -3600])
def test_a_token_that_is_about_to_end_is_worth_nothing(lifetime: float) -> None:
    way, _ = granted(lifetime)
    way.lost(told=False)
    assert way.grant() is None


@pytest.mark.parametrize("expires_at", ["soon", "2026-07-01T13:00:00"])
def test_a_time_that_says_nothing(expires_at: str) -> None:
    way, _ = granted(expires_at=expires_at)
    way.lost(told=False)
    assert way.grant() is None


def test_a_relay_that_refuses_connections_gets_a_moment_to_restart() -> None:
    way, grant = granted()
    way.lost(told=False)
    asks_api = []
    for _ in range(PATIENCE + 3):
        assert way.grant() is grant
        asks_api.append(way.failed(Failure.REFUSED))
    assert asks_api == [False] * PATIENCE + [True] * 3


def test_a_new_grant_that_leads_nowhere_gets_no_patience() -> None:
    way, _ = granted()
    assert way.failed(Failure.REFUSED)


def test_a_busy_relay_is_waited_for() -> None:
    way, grant = granted()
    way.lost(told=False)
    for _ in range(10):
        assert not way.failed(Failure.BUSY)
        assert way.grant() is grant


@pytest.mark.parametrize("failure", [Failure.SILENT, Failure.UNWANTED])
def test_a_grant_that_is_of_no_use_is_forgotten(failure: Failure) -> None:
    way, _ = granted()
    way.lost(told=False)
    assert way.failed(failure)
    assert way.grant() is None


def test_what_refusals_mean() -> None:
    busy = b'{"type":"urn:whook:problem:busy","title":"Busy","status":503}'
    full = b'{"type":"urn:whook:problem:no-relay","title":"No relay","status":503}'
    assert failure_of(503, busy) is Failure.BUSY
    assert failure_of(503, full) is failure_of(503, b"") is failure_of(401, b"") is Failure.UNWANTED
    assert failure_of(429, busy) is Failure.UNWANTED
