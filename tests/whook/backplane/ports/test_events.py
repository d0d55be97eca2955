"""Events keep what they say on their way over the bus, and pass over what is none of theirs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from whook.backplane.ports import (
    TOPIC_AUDIT,
    TOPIC_KICK,
    TOPIC_PROJECTS,
    TOPIC_RELAYS,
    TOPIC_ROUTES,
    Kick,
    Project,
    ProjectSet,
    RelayGone,
    RelayInfo,
    RelaySet,
    Route,
    RouteGone,
    RouteSet,
    decode_denied,
    decode_kick,
    decode_project_event,
    decode_relay_event,
    decode_route_event,
    encode_event,
    ignored,
)
from whook.backplane.ports.events import Decoder

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
number = st.integers(0, 2**53)
routes = st.builds(
    Route,
    project_id=text,
    project=text,
    relay_id=text,
    tunnel_id=text,
    generation=number,
    instance=text,
    holder=text,
)
relays = st.builds(
    RelayInfo,
    id=text,
    tunnel_url=text,
    trunk_url=text,
    capacity=number,
    load=number,
    version=text,
    draining=st.booleans(),
)
gone = st.builds(RelayGone, text, number)
times = st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC))


@given(st.one_of(st.builds(RouteSet, routes), st.builds(RouteGone, text, number), gone))
def test_route_events(event: RouteSet | RouteGone | RelayGone) -> None:
    assert decode_route_event(encode_event(event)) == event


@given(st.one_of(st.builds(RelaySet, relays), gone))
def test_relay_events(event: RelaySet | RelayGone) -> None:
    assert decode_relay_event(encode_event(event)) == event


@given(st.builds(Project, id=text, name=text, created_at=times))
def test_project_events(project: Project) -> None:
    assert decode_project_event(encode_event(ProjectSet(project))) == ProjectSet(project)


@given(project_id=text, user_id=text, token_id=text, reason=text)
def test_kicks(project_id: str, user_id: str, token_id: str, reason: str) -> None:
    if not (project_id or user_id or token_id):
        with pytest.raises(ValueError, match="must name"):
            Kick(reason=reason)
        return
    kick = Kick(project_id=project_id, user_id=user_id, token_id=token_id, reason=reason)
    assert decode_kick(encode_event(kick)) == kick


def test_a_kick_matches_all_that_it_names() -> None:
    tunnel = {"project_id": "p", "user_id": "u", "token_id": "t"}
    assert Kick(token_id="t", reason="").matches(**tunnel)
    assert Kick(project_id="p", user_id="u", reason="").matches(**tunnel)
    assert not Kick(project_id="p", user_id="x", reason="").matches(**tunnel)
    assert not Kick(token_id="x", reason="").matches(**tunnel)


@pytest.mark.parametrize(
    ("topic", "decode"),
    [
        (TOPIC_ROUTES, decode_route_event),
        (TOPIC_RELAYS, decode_relay_event),
        (TOPIC_PROJECTS, decode_project_event),
        (TOPIC_KICK, decode_kick),
        (TOPIC_AUDIT, decode_denied),
    ],
)
def test_what_is_no_event_known_here_is_counted_and_told_once(topic: str, decode: Decoder[object]) -> None:
    ignored.pop(topic, None)
    nonsense = [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"event":"other"}',
        b'{"event":"route-set"}',
        b'{"event":"kick"}',
    ]
    with capture_logs() as logs:
        assert [decode(message) for message in nonsense] == [None] * len(nonsense)
    assert ignored[topic] == len(nonsense)
    assert [line["topic"] for line in logs] == [topic]


def test_a_kick_that_names_nothing_is_passed_over_on_the_bus() -> None:
    assert decode_kick(b'{"event":"kick","reason":"all"}') is None


def test_fields_of_a_newer_publisher_are_ignored() -> None:
    message = b'{"event":"route-gone","project_id":"p","generation":3,"why":"new"}'
    assert decode_route_event(message) == RouteGone("p", 3)
