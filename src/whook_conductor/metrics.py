"""What a conductor publishes about its requests, counted from whole batches of outcomes.

A consumer of `outcomes`, published by the service. Holds plain integers that are read when scraped; labels
come from fixed sets and never from a request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from functools import partial
from typing import Final

from whook.chassis.metrics import Durations, Publisher
from whook_conductor import answers
from whook_conductor.outcomes import RESULTS, Outcome, OutcomeRecorder

_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_REASONS: Final = sorted(
    {found.slug for found in vars(answers).values() if isinstance(found, answers.Answer)}
    | {"bad-host", "bad-request", "duplicate", "queue-full", "other"}
)


class RequestTotals:
    """Sums over every request since the process began."""

    def __init__(self) -> None:
        self.requests = {(result, name): 0 for result in RESULTS for name in _CLASSES}
        self.refused = dict.fromkeys(_REASONS, 0)
        """By the kind of problem; ``other`` for kinds that are not known here."""
        self.received = 0
        self.sent = 0
        self.to_head = Durations()
        self.deliveries = Durations()

    def add(self, batch: Sequence[Outcome]) -> None:
        """Count one batch of outcomes."""
        requests, refused = self.requests, self.refused
        observe = self.to_head.observe
        for outcome in batch:
            if outcome.origin != "live":
                # No sender waited: what became of these is counted by the dispatcher.
                self.deliveries.observe(outcome.duration)
                continue
            requests[outcome.result, _CLASSES[min(outcome.status // 100, 5)]] += 1
            if outcome.result == "refused":
                refused[outcome.slug if outcome.slug in refused else "other"] += 1
            self.received += outcome.received
            self.sent += outcome.sent
            if outcome.to_head >= 0.0:
                observe(outcome.to_head)

    @contextlib.contextmanager
    def publish(self, recorder: OutcomeRecorder) -> Generator[None]:
        """Publish the totals, and what `recorder` had to drop, as long as the block runs."""
        with Publisher() as to:
            became = "Requests by what became of them and the class of the status that the sender saw."
            for key in self.requests:
                result, name = key
                read = partial(self.requests.__getitem__, key)
                to.counter("whook_requests", became, read, result=result, status=name)
            why = "Requests that whook itself answered, by the kind of problem."
            to.counts("whook_requests_refused", why, self.refused, "reason")
            meaning = "From a request's head to the head of its response."
            to.durations("whook_request_seconds", meaning, self.to_head)
            meaning = "How long deliveries out of the queue took, whatever became of them."
            to.durations("whook_delivery_seconds", meaning, self.deliveries)
            bodies = "Bytes of bodies, as seen from the ingress."
            for direction in ("received", "sent"):
                read = partial(getattr, self, direction)
                to.counter("whook_body_bytes", bodies, read, direction=direction)
            dropped = "Outcomes that were not recorded because too many were waiting."
            to.counter("whook_outcomes_dropped", dropped, lambda: recorder.dropped)
            yield
