"""Which outcomes get a line, at which level, and how many at most; the spans of a live one and a delivery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from whook.backplane.ports import StoredEvent
from whook.chassis.verbosity import VERBOSITY
from whook.telemetry.traceparent import span_id
from whook.telemetry.tracing import Tracer
from whook_conductor.outcome_log import LINES_AT_ONCE, LINES_PER_SECOND, OutcomeLog
from whook_conductor.outcomes import Outcome

TRACEPARENT = b"00-" + b"4b" * 16 + b"-" + b"0f" * 8 + b"-01"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def outcome(event_id: str = "evt_1", **fields: object) -> Outcome:
    made = Outcome(event_id, b"POST", b"/hook?key=SECRET", "127.0.0.1", 100.0, 10.0, "shop", "prj_1")
    made.duration, made.tunnel = 0.5, "tun_7"
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield found
        VERBOSITY.level, VERBOSITY.share = "info", 0.0


ANSWERED = {"result": "answered", "status": 200}


@pytest.mark.parametrize(
    ("fields", "event", "level"),
    [
        ({"result": "buffered", "status": 202, "slug": "no-tunnel"}, "webhook buffered", "info"),
        ({"result": "refused", "status": 503, "slug": "queue-full"}, "webhook refused", "warning"),
        ({"result": "refused", "status": 404, "slug": "unknown-project"}, "webhook refused", "info"),
        ({"result": "aborted", "slug": "sender-gone"}, "webhook broken off", "info"),
        ({"result": "answered", "status": 500}, "webhook answered", "info"),
        ({"result": "upgraded", "status": 101}, "webhook answered", "info"),
        ({"result": "refused", "origin": "buffered", "slug": "tunnel-lost"}, "delivery failed", "info"),
        ({"result": "answered", "origin": "replay", "status": 500}, "delivery failed", "info"),
    ],
)
def test_what_did_not_go_well_is_always_told(
    lines: list[Any], fields: dict[str, object], event: str, level: str
) -> None:
    OutcomeLog(None, Clock()).take([outcome(**fields), outcome(**ANSWERED)])
    (line,) = lines
    assert (line["event"], line["log_level"]) == (event, level)
    assert (line["event_id"], line["tunnel"], line["project"]) == ("evt_1", "tun_7", "shop")
    assert line["problem"] == fields.get("slug")
    assert "SECRET" not in str(line)


def test_what_went_well_is_told_when_somebody_wants_it(lines: list[Any]) -> None:
    log = OutcomeLog(None, Clock())
    log.take([outcome(**ANSWERED)])
    assert lines == []
    VERBOSITY.share = 1.0
    log.take([outcome(**ANSWERED)])
    VERBOSITY.share = 0.0
    VERBOSITY.level = "debug"
    log.take([outcome(**ANSWERED)])
    assert [line["event"] for line in lines] == ["webhook answered"] * 2


def test_a_flood_is_bounded_and_counted(lines: list[Any]) -> None:
    clock = Clock()
    log = OutcomeLog(None, clock)
    flood = [outcome(f"evt_{n}", result="refused", status=503) for n in range(LINES_AT_ONCE + 500)]
    log.take(flood)
    assert len(lines) == LINES_AT_ONCE
    clock.now = 1.0
    log.take(flood[:5])
    assert (lines[-1]["event"], lines[-1]["count"]) == ("webhooks were not logged", 500)
    assert len(lines) == LINES_AT_ONCE + 6
    clock.now = 2.0
    log.take(flood)
    assert len(lines) < LINES_AT_ONCE + 6 + 2 * LINES_PER_SECOND


def test_a_live_webhook_has_two_spans() -> None:
    tracer = Tracer(1.0)
    OutcomeLog(tracer, Clock()).take([outcome(traceparent=TRACEPARENT, opened=10.1, **ANSWERED)])
    ingress, trunk = tracer.take()
    assert (ingress.parent, ingress.id) == (int("0f" * 8, 16), span_id("evt_1", 1, "ingress"))
    assert (trunk.parent, trunk.id) == (ingress.id, span_id("evt_1", 1, "trunk"))
    assert (ingress.start, ingress.end) == (100_000_000_000, 100_500_000_000)
    assert round((trunk.start - ingress.start) / 1e9, 6) == 0.1
    assert ingress.error == ""
    assert "SECRET" not in str(ingress)


def test_what_never_reached_a_trunk_has_one_span() -> None:
    tracer = Tracer(1.0)
    OutcomeLog(tracer, Clock()).take([outcome(result="buffered", status=202, slug="no-tunnel")])
    (ingress,) = tracer.take()
    assert (ingress.name, ingress.error) == ("webhook shop", "")
    assert (ingress.attributes["whook.result"], ingress.attributes["whook.problem"]) == (
        "buffered",
        "no-tunnel",
    )
    OutcomeLog(tracer, Clock()).take([outcome(result="refused", status=503, slug="queue-full")])
    assert [span.error for span in tracer.take()] == ["queue-full"]


def test_a_delivery_is_a_span_of_the_same_trace() -> None:
    event = StoredEvent(
        id="evt_1", project_id="prj_1", project="shop", received_at=100.0, method=b"POST", target=b"/",
        version=b"1.1", headers=[(b"traceparent", TRACEPARENT)], body=b"", body_size=0, trailers=[],
        peer="127.0.0.1", scheme="http", trusted=False,
    )  # fmt: skip
    tracer = Tracer(1.0)
    delivery = outcome(origin="buffered", attempt=2, began_at=200.0, event=event, **ANSWERED)
    OutcomeLog(tracer, Clock()).take([delivery])
    (span,) = tracer.take()
    assert span.trace.trace_id == int("4b" * 16, 16)
    assert (span.name, span.parent) == ("delivery shop", span_id("evt_1", 1, "ingress"))
    assert span.id == span_id("evt_1", 2, "trunk")
    assert span.start == 200_000_000_000
