"""Scenario `fan`: webhooks at a fixed rate to random ones of many tunnels, and the latency senders see.

An open loop: webhooks are due whatever becomes of the earlier ones, and each is timed from when it was due
(no coordinated omission). Rounds follow one another on the same tunnels.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.crowd import Sent, running_crowd, say
from bench.figures import Figure, distribution
from bench.report import markdown, save


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    tunnels: int = 10_000
    rates: Sequence[float] = (200.0, 1_000.0)
    """Webhooks a second."""
    seconds: float = 8.0
    rounds: int = 2
    size: int = 1_024


HEADINGS = (
    "tunnels", "rate/s", "round", "answered", "answered/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms",
    "CPU µs",
)  # fmt: skip


def run(plan: Plan) -> str:
    """Measure; give the table. Raises BenchError if a webhook fails."""
    found: dict[float, list[Sent]] = {rate: [] for rate in plan.rates}
    with running_crowd("fan", room=plan.tunnels) as crowd:
        crowd.open(0, plan.tunnels)
        crowd.send("--connections", "16", "--seconds", "1")
        for n in range(plan.rounds):
            for rate in plan.rates:
                options = ("--rate", str(rate), "--seconds", str(plan.seconds), "--size", str(plan.size))
                sent = crowd.send(*options, "--seed", str(n + 1), "--warm-up", "1")
                found[rate].append(sent)
                say(f"{rate:,.0f}/s: p50 {sent.p50_ms:.1f}, p99 {sent.p99_ms:.1f}, max {sent.max_ms:.1f} ms")
        crowd.check()
    rows = [
        (
            plan.tunnels, rate, n + 1, sent.requests, sent.requests / sent.seconds,
            sent.p50_ms, sent.p99_ms, sent.p999_ms, sent.max_ms, sent.server_us,
        )
        for rate, rounds in found.items()
        for n, sent in enumerate(rounds)
    ]  # fmt: skip
    table = markdown(HEADINGS, rows)
    figures = [figure for rate, rounds in found.items() for figure in _figures(plan, rate, rounds)]
    series = [
        distribution("latency", [x for sent in rounds for x in sent.latencies_ms], {"rate": rate})
        for rate, rounds in found.items()
    ]
    results: list[dict[str, object]] = [
        {"rate": rate, **{key: value for key, value in asdict(sent).items() if key != "latencies_ms"}}
        for rate, rounds in found.items()
        for sent in rounds
    ]
    return f"{table}\n\n{save('fan', results, table, figures=figures, series=series)}"


def _figures(plan: Plan, rate: float, rounds: Sequence[Sent]) -> list[Figure]:
    where: dict[str, str | int | float] = {"tunnels": plan.tunnels, "rate": rate}
    return [
        Figure("p50", "ms", where, [sent.p50_ms for sent in rounds]),
        Figure("p99", "ms", where, [sent.p99_ms for sent in rounds]),
        Figure("p99.9", "ms", where, [sent.p999_ms for sent in rounds]),
        Figure("CPU per webhook", "µs", where, [sent.server_us for sent in rounds]),
    ]


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    standard = Plan()
    parser.add_argument("--tunnels", type=int, default=standard.tunnels)
    rates = ",".join(f"{rate:g}" for rate in standard.rates)
    parser.add_argument("--rate", default=rates, help="webhooks a second; several with commas")
    parser.add_argument("--seconds", type=float, default=standard.seconds, help="of each round")
    parser.add_argument("--rounds", type=int, default=standard.rounds)
    parser.add_argument("--size", type=int, default=standard.size, help="bytes of each body")


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    rates = tuple(float(rate) for rate in args.rate.split(","))
    return run(Plan(args.tunnels, rates, args.seconds, args.rounds, args.size))
