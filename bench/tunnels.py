"""Scenario `tunnels`: what tunnels cost a relay as they grow in number, and what they add to a webhook.

One relay is filled in steps; at each size it rests for longer than the heartbeat's period, which gives the
memory of a tunnel and the CPU of heartbeats, and then gets webhooks to random tunnels. The reference is a
second, equal cluster with ten tunnels, in the same run: the two take turns under the same load. Then two more
relays are filled, and one webhook goes to each tunnel of all three.
"""

from __future__ import annotations

import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from bench.crowd import Crowd, Sent, running_crowd, say
from bench.figures import Figure, Series, distribution
from bench.process import BenchError
from bench.report import markdown, save

FEW = 10
"""Tunnels of the reference."""
KIB = 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run; times in seconds."""

    sizes: Sequence[int] = (1_000, 10_000, 19_000)
    whole: int = 50_000
    """Tunnels over three relays at the end; 0 leaves that out."""
    idle: float = 22.0
    """Longer than the 20 s from one heartbeat of an idle tunnel to its next."""
    seconds: float = 2.5
    rounds: int = 3
    connections: int = 64
    rate: float = 300.0
    """Webhooks a second in the open loop in which the latency is taken."""


@dataclass(slots=True)
class Size:
    """What was seen at one size."""

    tunnels: int
    kib_each: float
    conductor_kib_each: float
    idle_percent: float
    """Of one core, the relay alone."""
    cpu_us: list[float]
    few_us: list[float]
    p50_ms: float
    p99_ms: float
    max_ms: float
    opened_a_second: float

    @property
    def ratio(self) -> float:
        """Cost of a webhook beside that at ten tunnels: the median of the rounds."""
        return statistics.median(a / b for a, b in zip(self.cpu_us, self.few_us, strict=True))


def rest(crowd: Crowd, seconds: float, relay: str = "relay-1") -> float:
    """Let a cluster rest; give the CPU of a relay in percent of a core."""
    before, began = crowd.cpu()[relay], time.monotonic()
    time.sleep(seconds)
    used, took = crowd.cpu()[relay] - before, time.monotonic() - began
    crowd.check()
    return 100 * used / took


class _Run:
    """One run of the scenario."""

    def __init__(self, plan: Plan, crowd: Crowd, few: Crowd) -> None:
        self.plan, self.crowd, self.few = plan, crowd, few
        few.open(0, FEW)
        crowd.open(0, FEW)
        for cluster in (few, crowd):  # warm: the first webhooks cost more
            cluster.send("--connections", str(plan.connections), "--seconds", "1")
        self.base = crowd.resident(crowd.cluster.relays[0])
        self.conductor_base = crowd.resident(crowd.cluster.conductors[0])
        self.series: list[Series] = []
        self.few_idle = rest(few, min(plan.idle, 5.0))
        say(f"{FEW} tunnels: the relay takes {self.few_idle:.2f} % of a core at rest")

    def at(self, tunnels: int) -> Size:
        """Fill the first relay up to so many tunnels, and measure."""
        plan, crowd = self.plan, self.crowd
        crowd.open(0, tunnels)
        idle = rest(crowd, plan.idle)
        grown = crowd.resident(crowd.cluster.relays[0]) - self.base
        conductor = crowd.resident(crowd.cluster.conductors[0]) - self.conductor_base
        cost: dict[str, list[float]] = {"many": [], "few": []}
        pair = {"many": crowd, "few": self.few}
        for n in range(plan.rounds):
            for name in ("few", "many") if n % 2 == 0 else ("many", "few"):
                sent = self._closed(pair[name])
                cost[name].append(sent.server_us)
        # One at a time costs more for each, but shows what a sender sees while the relay has time.
        late = crowd.send("--rate", str(plan.rate), "--seconds", str(2 * plan.seconds))
        self.series.append(distribution("latency", late.latencies_ms, {"tunnels": tunnels}))
        size = Size(
            tunnels=tunnels,
            kib_each=grown / (tunnels - FEW) / KIB,
            conductor_kib_each=conductor / (tunnels - FEW) / KIB,
            idle_percent=idle,
            cpu_us=cost["many"],
            few_us=cost["few"],
            p50_ms=late.p50_ms,
            p99_ms=late.p99_ms,
            max_ms=late.max_ms,
            opened_a_second=crowd.opened,
        )
        say(
            f"{tunnels:,} tunnels: {size.kib_each:.1f} KiB each, {idle:.2f} % of a core at rest, "
            f"{statistics.median(size.cpu_us):.0f} µs a webhook ({size.ratio:.2f} of that at {FEW}), "
            f"p99 {size.p99_ms:.1f} ms"
        )
        return size

    def _closed(self, crowd: Crowd) -> Sent:
        plan = self.plan
        return crowd.send("--connections", str(plan.connections), "--seconds", str(plan.seconds))

    def whole(self) -> dict[str, float]:
        """Spread tunnels over all relays; send a webhook to each."""
        crowd, whole = self.crowd, self.plan.whole
        count = len(crowd.tunnels)
        first = crowd.tunnels[0]
        left = whole - first
        for relay in range(1, count):
            crowd.open(relay, left // (count - 1) + (left % (count - 1) if relay == 1 else 0))
        answered, took = crowd.send_to_each()
        crowd.check()
        say(f"{whole:,} tunnels over {count} relays: {answered:,} webhooks answered in {took:.1f} s, 0 failed")
        return {"tunnels": whole, "relays": count, "answered": answered, "failed": 0, "seconds": took}


HEADINGS = (
    "tunnels", "KiB each", "conductor KiB each", "idle % of a core", "CPU µs", "CPU µs at 10", "ratio",
    "p50 ms", "p99 ms", "max ms", "opened/s",
)  # fmt: skip


def run(plan: Plan) -> str:
    """Measure; give the table. Raises BenchError."""
    sizes: list[Size] = []
    whole: dict[str, float] = {}
    room = max(plan.sizes)
    if plan.whole > 3 * room:
        raise BenchError(f"{plan.whole:,} tunnels are more than three relays of {room:,} hold")
    with ExitStack() as stack:
        crowd = stack.enter_context(running_crowd("many", relays=3 if plan.whole else 1, room=room))
        few = stack.enter_context(running_crowd("few", room=FEW))
        going = _Run(plan, crowd, few)
        for tunnels in plan.sizes:
            sizes.append(going.at(tunnels))
        if plan.whole:
            whole = going.whole()
    rows = [
        (
            size.tunnels, size.kib_each, size.conductor_kib_each, size.idle_percent,
            statistics.median(size.cpu_us), statistics.median(size.few_us), size.ratio,
            size.p50_ms, size.p99_ms, size.max_ms, size.opened_a_second,
        )
        for size in sizes
    ]  # fmt: skip
    text = markdown(HEADINGS, rows)
    if whole:
        text += "\n\n" + markdown(tuple(whole), [tuple(whole.values())])
    results: list[dict[str, object]] = [asdict(size) for size in sizes]
    if whole:
        results.append(dict(whole))
    figures = [figure for size in sizes for figure in _figures(size)]
    path = save("tunnels", results, text, figures=figures, series=going.series)
    return f"{text}\n\nThe relay with {FEW} tunnels took {going.few_idle:.2f} % of a core at rest.\n{path}"


def _figures(size: Size) -> list[Figure]:
    where: dict[str, str | int | float] = {"tunnels": size.tunnels}
    return [
        Figure("memory of a tunnel", "KiB", where, [size.kib_each]),
        Figure("relay at rest", "% of a core", where, [size.idle_percent]),
        Figure("CPU per webhook", "µs", where, size.cpu_us),
        Figure("CPU per webhook / at ten", "", where, [a / b for a, b in zip(size.cpu_us, size.few_us, strict=True)]),
        Figure("p99", "ms", where, [size.p99_ms]),
    ]


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    standard = Plan()
    parser.add_argument("--sizes", default=",".join(map(str, standard.sizes)), help="tunnels on one relay")
    parser.add_argument("--whole", type=int, default=standard.whole, help="over three relays; 0: leave out")
    parser.add_argument("--idle", type=float, default=standard.idle, help="seconds of rest at each size")
    parser.add_argument("--seconds", type=float, default=standard.seconds, help="of each round of webhooks")
    parser.add_argument("--rounds", type=int, default=standard.rounds)
    parser.add_argument("--connections", type=int, default=standard.connections)
    parser.add_argument("--rate", type=float, default=standard.rate, help="webhooks a second, for the p99")


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    sizes = tuple(sorted(int(size) for size in args.sizes.split(",")))
    return run(
        Plan(sizes, args.whole, args.idle, args.seconds, args.rounds, args.connections, args.rate)
    )
