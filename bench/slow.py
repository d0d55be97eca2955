"""Scenario `slow`: receivers that take nothing beside receivers that answer; what the first cost the others.

A cluster of one conductor and one relay holds live tunnels, and as many whose clients never read. Webhooks go
to random live tunnels at a steady rate, each timed from when it was due: first alone, then while a large body
is under way to every stalled tunnel and stands still for want of credit. Told are the p99 of the live ones in
both, and the memory that the stalled exchanges take in conductor and relay. More than `BOUND` of it for one
exchange in either fails the run, and so does any live webhook that fails.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

from bench.crowd import PREFIX, Crowd, Sent, pid_of, running_crowd, signing_key
from bench.figures import Figure, Series, Where, distribution
from bench.plots import SHARE
from bench.process import BenchError, Child
from bench.report import markdown, save
from bench.sampling import Sampler

BOUND = 1_024.0
"""KiB of a stalled exchange in one process: what is kept to be sent again, what is read ahead, its credit."""
ENOUGH = 100
"""Stalled exchanges from which on it counts: of fewer a process's usual growth is most of it."""
SETTINGS = {"WHOOK_CONDUCTOR_REQUEST_DEADLINE": "600"}
"""A stalled exchange would else end in the middle of the measurement."""
STALL = 60.0
"""Seconds in which all stalled exchanges must stand still."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: tunnels of each kind, exchanges and bytes on each stalled one, webhooks a second."""

    live: int
    stalled: int
    each: int
    size: int
    rate: float
    seconds: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Phase:
    """What one measurement of the live tunnels gave."""

    name: str
    sent: Sent


def run(plan: Plan) -> tuple[list[Phase], dict[str, float], list[Series]]:
    """Measure. Give the phases, KiB for each stalled exchange by process, and curves. Raises BenchError."""
    phases: list[Phase] = []
    with running_crowd("slow", room=plan.live + plan.stalled, settings=SETTINGS) as crowd:
        crowd.open(0, plan.live)
        send(crowd, plan, 1.0)  # once for code and buffers
        pids = {"conductor": pid_of(crowd.cluster.conductors[0]), "relay": pid_of(crowd.cluster.relays[0])}
        phases += [Phase("live alone", send(crowd, plan, plan.seconds)) for _ in range(plan.rounds)]
        with Sampler(pids) as memory, stalled_clients(crowd, plan) as stalled:
            sent = stalled.message(STALL)["sent"]
            phases += [Phase("beside stalled", send(crowd, plan, plan.seconds)) for _ in range(plan.rounds)]
            stalled.tell()
            told = stalled.message()
        if told["ended"]:
            raise BenchError(f"{told['ended']} stalled exchanges ended before their time: {told['why'][:3]}")
        exchanges = plan.stalled * plan.each
        grown = {name: (memory.most(name) - memory.first(name)) * 1024 / exchanges for name in pids}
        sys.stderr.write(
            f"{exchanges} stalled exchanges of {plan.size:,} B took {sent / exchanges:,.0f} B each; "
            f"{', '.join(f'{name} {kib:.0f} KiB each' for name, kib in grown.items())}\n"
        )
        crowd.check()
        series = memory.series()
    for name in ("live alone", "beside stalled"):
        times = [ms for phase in phases if phase.name == name for ms in phase.sent.latencies_ms]
        series.append(distribution("latency of live webhooks", times, {"phase": name}))
    assert series[-1].x == SHARE
    worst = max(grown, key=lambda name: grown[name])
    if grown[worst] > BOUND and exchanges >= ENOUGH:
        raise BenchError(f"{worst} took {grown[worst]:.0f} KiB for each stalled exchange")
    return phases, grown, series


def send(crowd: Crowd, plan: Plan, seconds: float) -> Sent:
    """Send webhooks to the live tunnels for a while."""
    return crowd.send("--rate", str(plan.rate), "--seconds", str(seconds), count=plan.live)


def stalled_clients(crowd: Crowd, plan: Plan) -> Child:
    """Start the process of the stalled tunnels and of those who send to them."""
    relay = crowd.cluster.relays[0]
    url = f"ws://127.0.0.1:{relay.ports[0]}/v1/tunnel"
    command = ["-m", "bench.slow_clients", url, str(crowd.port), "--relay-id", relay.name]
    command += ["--prefix", PREFIX, "--first", str(plan.live), "--count", str(plan.stalled)]
    command += ["--each", str(plan.each), "--size", str(plan.size)]
    return Child(*command, name="stalled clients", env={"WHOOK_BENCH_KEY": signing_key(crowd.cluster)})


def report(plan: Plan, phases: list[Phase], grown: dict[str, float], series: list[Series]) -> str:
    """Save the results; give the table."""
    figures: list[Figure] = []
    rows: list[tuple[object, ...]] = []
    about: Where = {"live": plan.live, "stalled": plan.stalled, "each": plan.each, "bytes": plan.size}
    for name in ("live alone", "beside stalled"):
        own = [phase.sent for phase in phases if phase.name == name]
        where: Where = {**about, "phase": name}
        p50 = Figure("p50 of live webhooks", "ms", where, [sent.p50_ms for sent in own])
        p99 = Figure("p99 of live webhooks", "ms", where, [sent.p99_ms for sent in own])
        cpu = Figure("CPU per live webhook", "µs", where, [sent.server_us for sent in own])
        figures += (p50, p99, cpu)
        requests = sum(sent.requests for sent in own)
        rows.append((name, plan.live, plan.stalled, requests, p50.median, p99.median, cpu.median))
    for name, kib in grown.items():
        figures.append(Figure("memory of a stalled exchange", "KiB", {**about, "process": name}, [kib]))
    headings = ("webhooks", "live", "stalled", "answered", "p50 ms", "p99 ms", "CPU µs")
    memory = markdown(("process", "KiB for each stalled exchange"), list(grown.items()))
    table = f"{markdown(headings, rows)}\n\n{memory}"
    results: list[dict[str, object]] = [
        {"phase": phase.name, "requests": phase.sent.requests, "p99_ms": phase.sent.p99_ms}
        for phase in phases
    ]
    return f"{table}\n\n{save('slow', results, table, figures=figures, series=series)}"


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--live", type=int, default=200)
    parser.add_argument("--stalled", type=int, default=200)
    parser.add_argument("--each", type=int, default=4, help="exchanges on each stalled tunnel")
    parser.add_argument("--size", type=int, default=4_194_304, help="bytes of each of their bodies")
    parser.add_argument("--rate", type=float, default=300.0, help="webhooks a second to live tunnels")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3)


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    plan = Plan(args.live, args.stalled, args.each, args.size, args.rate, args.seconds, args.rounds)
    return report(plan, *run(plan))
