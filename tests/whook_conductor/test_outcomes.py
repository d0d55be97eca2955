"""Outcomes go out in batches, bounded, and the last ones are not lost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import trio
import trio.testing

from whook.chassis.metrics import REGISTRY
from whook_conductor.metrics import RequestTotals
from whook_conductor.outcomes import Outcome, OutcomeRecorder


def outcome(**fields: object) -> Outcome:
    made = Outcome("evt_1", b"POST", b"/", "127.0.0.1", 1.0, 2.0)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


async def test_what_comes_between_two_batches_goes_out_together(autojump_clock: trio.abc.Clock) -> None:
    batches: list[int] = []

    def consume(batch: Sequence[Outcome]) -> None:
        batches.append(len(batch))

    recorder = OutcomeRecorder([consume])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.run)
        recorder.record(outcome())
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(5):
            recorder.record(outcome())
        await trio.sleep(1)
        assert batches == [1, 5]
        recorder.record(outcome())
        nursery.cancel_scope.cancel()
    assert batches == [1, 5, 1]


async def test_beyond_the_bound_outcomes_are_counted_and_dropped() -> None:
    recorder = OutcomeRecorder(max_pending=2)
    for _ in range(5):
        recorder.record(outcome())
    assert (recorder.flush(), recorder.dropped) == (2, 3)


async def test_totals_are_published() -> None:
    totals, recorder = RequestTotals(), OutcomeRecorder()
    with totals.publish(recorder):
        totals.add(
            [
                outcome(result="answered", status=204, to_head=0.1, received=3, sent=4),
                outcome(result="refused", status=503),
                outcome(result="aborted", status=0),
            ]
        )

        def sample(name: str, **labels: str) -> float | None:
            return REGISTRY.get_sample_value(name, labels)

        assert sample("whook_requests_total", result="answered", status="2xx") == 1
        assert sample("whook_requests_total", result="refused", status="5xx") == 1
        assert sample("whook_requests_total", result="aborted", status="none") == 1
        assert sample("whook_body_bytes_total", direction="received") == 3
        assert sample("whook_body_bytes_total", direction="sent") == 4
    assert REGISTRY.get_sample_value("whook_body_bytes_total", {"direction": "sent"}) is None


def test_refusals_are_counted_by_the_problem_and_deliveries_apart() -> None:
    totals = RequestTotals()
    totals.add(
        [
            outcome(result="refused", status=503, slug="no-tunnel"),
            outcome(result="refused", status=503, slug="queue-full"),
            outcome(result="refused", status=500, slug="made-up by a newer version"),
            outcome(result="buffered", status=202, slug="no-tunnel"),
            outcome(result="answered", status=200, to_head=0.004, origin="buffered", duration=0.2),
        ]
    )
    counted = {reason: count for reason, count in totals.refused.items() if count}
    assert counted == {"no-tunnel": 1, "queue-full": 1, "other": 1}
    assert sum(totals.requests.values()) == 4
    assert (sum(totals.deliveries.counts), totals.deliveries.total) == (1, 0.2)
    assert sum(totals.to_head.counts) == 0


def test_every_problem_to_senders_has_its_count() -> None:
    """As listed in the reference; what a conductor answers must not end up under "other"."""
    reference = (Path(__file__).parents[2] / "docs" / "operate" / "reference.md").read_text("utf-8")
    section = reference.partition("To senders, from the server:")[2].partition("To senders, from the client")[
        0
    ]
    listed = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))
    assert "no-tunnel" in listed
    # Those of requests that could not be read are counted by their status.
    malformed = {
        "head-too-large",
        "coding-not-implemented",
        "method-not-implemented",
        "version-not-supported",
    }
    assert listed - malformed <= RequestTotals().refused.keys()
