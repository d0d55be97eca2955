"""What a conductor publishes about its requests, counted from whole batches of outcomes.

A consumer of `outcomes`, published by the service. Holds plain integers that are read when scraped; labels
come from fixed sets and never from a request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from functools import partial
from typing import Final

from whook.chassis import metrics
from whook_conductor.outcomes import RESULTS, Outcome, OutcomeRecorder

_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RequestTotals:
    """Sums over every request since the process began."""

    def __init__(self) -> None:
        self.requests = {(result, name): 0 for result in RESULTS for name in _CLASSES}
        self.received = 0
        self.sent = 0
        self._to_head = metrics.histogram(
            "whook_request_seconds", "From a request's head to the head of its response.", buckets=_BUCKETS
        )

    def add(self, batch: Sequence[Outcome]) -> None:
        """Count one batch of outcomes."""
        requests = self.requests
        observe = self._to_head.observe
        for outcome in batch:
            if outcome.origin != "live":
                continue  # no sender waited: these are counted by the dispatcher
            requests[outcome.result, _CLASSES[min(outcome.status // 100, 5)]] += 1
            self.received += outcome.received
            self.sent += outcome.sent
            if outcome.to_head >= 0.0:
                observe(outcome.to_head)

    @contextlib.contextmanager
    def publish(self, recorder: OutcomeRecorder) -> Generator[None]:
        """Publish the totals, and what `recorder` had to drop, as long as the block runs."""
        with contextlib.ExitStack() as stack:
            for key in self.requests:
                result, name = key
                stack.enter_context(
                    metrics.watch(
                        "whook_requests",
                        "Requests by what became of them and the class of the status that the sender saw.",
                        partial(self.requests.__getitem__, key),
                        kind="counter",
                        result=result,
                        status=name,
                    )
                )
            for direction in ("received", "sent"):
                stack.enter_context(
                    metrics.watch(
                        "whook_body_bytes",
                        "Bytes of bodies, as seen from the ingress.",
                        partial(getattr, self, direction),
                        kind="counter",
                        direction=direction,
                    )
                )
            stack.enter_context(
                metrics.watch(
                    "whook_outcomes_dropped",
                    "Outcomes that were not recorded because too many were waiting.",
                    lambda: recorder.dropped,
                    kind="counter",
                )
            )
            yield
