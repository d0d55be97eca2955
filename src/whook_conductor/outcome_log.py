"""What is told of each request after its end: a log line where there is a reason for one, and its spans.

A consumer of the OutcomeRecorder, so nothing here is on the way of a webhook. Whatever was refused, buffered,
broken off or answered with a failure gets a line, within a budget; what went well gets one where `verbosity`
says so. Must never log a target, a header field or a body: they have secrets in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from whook.chassis.logs import get_logger
from whook.chassis.verbosity import VERBOSITY
from whook.telemetry.traceparent import find_traceparent
from whook.telemetry.tracing import Tracer
from whook_conductor.outcomes import Outcome

LINES_PER_SECOND: Final = 100.0
LINES_AT_ONCE: Final = 1_000
"""Lines in a second, and at once: a project that is flooded while nobody is connected must not fill the disk.
Beyond it they are counted. Lines that somebody asked for are not bounded."""

_SERVER_ERROR: Final = 500

_log = get_logger("whook.conductor.webhooks")


class OutcomeLog:
    """Logs and traces outcomes."""

    def __init__(self, tracer: Tracer | None, clock: Callable[[], float]) -> None:
        self._tracer = tracer
        self._clock = clock
        self._tokens, self._refilled = float(LINES_AT_ONCE), clock()
        self._left_out = 0

    def take(self, batch: Sequence[Outcome]) -> None:
        """Take one batch."""
        for outcome in batch:
            if outcome.result != "answered" or outcome.status >= _SERVER_ERROR:
                if (VERBOSITY.exchanges and VERBOSITY.chosen(outcome.event_id)) or self._may():
                    _tell(outcome)
                else:
                    self._left_out += 1
            elif VERBOSITY.exchanges and VERBOSITY.chosen(outcome.event_id):
                _tell(outcome)
        if self._left_out and self._may():
            _log.warning("webhooks were not logged", count=self._left_out)
            self._left_out = 0
        if self._tracer is not None:
            for outcome in batch:
                _trace(outcome, self._tracer)

    def _may(self) -> bool:
        now = self._clock()
        self._tokens = min(LINES_AT_ONCE, self._tokens + (now - self._refilled) * LINES_PER_SECOND)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _tell(outcome: Outcome) -> None:
    log = _log.bind(**_values(outcome))
    if outcome.result == "buffered":
        log.info("webhook buffered")
    elif outcome.result == "aborted":
        log.info("webhook broken off")
    elif outcome.result == "refused" and outcome.origin == "live":
        if outcome.status >= _SERVER_ERROR:
            log.warning("webhook refused")
        else:  # the sender's doing
            log.info("webhook refused")
    elif outcome.result == "refused" or (outcome.origin != "live" and outcome.status >= _SERVER_ERROR):
        log.info("delivery failed")
    else:
        log.info("webhook answered")


def _values(outcome: Outcome) -> dict[str, Any]:
    values: dict[str, Any] = {
        "event_id": outcome.event_id,
        "tunnel": outcome.tunnel or None,
        "project": outcome.project or None,
        "attempt": outcome.attempt,
        "origin": outcome.origin,
        "status": outcome.status or None,
        "problem": outcome.slug or None,
        "seconds": round(outcome.duration, 4),
        "received": outcome.received,
        "sent": outcome.sent,
    }
    return values


def _trace(outcome: Outcome, tracer: Tracer) -> None:
    live = outcome.origin == "live"
    traceparent = outcome.traceparent
    if not live and outcome.event is not None:
        traceparent = find_traceparent(outcome.event.headers)
    trace = tracer.trace(outcome.event_id, traceparent)
    if trace is None:
        return
    start = _nanoseconds(outcome.received_at if live else outcome.began_at)
    end = start + _nanoseconds(outcome.duration)
    values: dict[str, str | float | bool] = {
        "whook.project": outcome.project,
        "whook.tunnel": outcome.tunnel,
        "whook.origin": outcome.origin,
    }
    if outcome.status:
        values["http.response.status_code"] = outcome.status
    if outcome.slug:
        values["whook.problem"] = outcome.slug
    error = "" if outcome.result == "buffered" else outcome.slug
    if not error and (outcome.status >= _SERVER_ERROR or outcome.result == "aborted"):
        error = f"status {outcome.status}" if outcome.status else outcome.result
    event_id, attempt = outcome.event_id, outcome.attempt
    if live:
        values["http.request.method"] = outcome.method.decode("latin-1")
        values["whook.result"] = outcome.result
        tracer.hop(
            "ingress", trace, event_id, attempt, start, end,
            name=f"webhook {outcome.project}", kind="server", error=error, **values,
        )  # fmt: skip
    if opened := outcome.opened if live else outcome.began:
        tracer.hop(
            "trunk", trace, event_id, attempt, start + _nanoseconds(opened - outcome.began), end,
            name=f"exchange {outcome.project}" if live else f"delivery {outcome.project}",
            kind="client", error=error, **values,
        )  # fmt: skip


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
