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

from bench.crowd import Crowd, running_crowd, say
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
    seconds: float = 2.0
    rounds: int = 2
    connections: Sequence[int] = (8, 64)
    """Webhooks under way at once. With more than the ten tunnels of the reference, it has several on each,
    which share system calls; random ones of many tunnels never do."""
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
    cpu_us: dict[int, list[float]]
    """By webhooks at once: of each round, with the heartbeats of the time in which it was taken."""
    few_us: dict[int, list[float]]
    hot_us: dict[int, list[float]]
    """The same for webhooks to ten of these tunnels: what the mere number of the others adds."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    opened_a_second: float

    def ratios(self, connections: int, *, hot: bool = False) -> list[float]:
        """Cost of a webhook beside that where there are ten tunnels, of each round."""
        cost = self.hot_us if hot else self.cpu_us
        pairs = zip(cost[connections], self.few_us[connections], strict=True)
        return [many / few for many, few in pairs]


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
            cluster.send("--connections", str(max(plan.connections)), "--seconds", "1")
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
        kinds = {"few": (self.few, 0), "many": (crowd, 0), "hot": (crowd, FEW)}
        cost: dict[str, dict[int, list[float]]] = {
            name: {connections: [] for connections in plan.connections} for name in kinds
        }
        for n in range(plan.rounds):
            for connections in plan.connections:
                for name in kinds if n % 2 == 0 else reversed(kinds):
                    options = ("--connections", str(connections), "--seconds", str(plan.seconds))
                    cluster, count = kinds[name]
                    cost[name][connections].append(cluster.send(*options, count=count).server_us)
        # At a rate that leaves the relay time: what senders see of the number of tunnels alone.
        late = crowd.send("--rate", str(plan.rate), "--seconds", str(2 * plan.seconds))
        self.series.append(distribution("latency", late.latencies_ms, {"tunnels": tunnels}))
        size = Size(
            tunnels=tunnels,
            kib_each=grown / (tunnels - FEW) / KIB,
            conductor_kib_each=conductor / (tunnels - FEW) / KIB,
            idle_percent=idle,
            cpu_us=cost["many"],
            few_us=cost["few"],
            hot_us=cost["hot"],
            p50_ms=late.p50_ms,
            p99_ms=late.p99_ms,
            max_ms=late.max_ms,
            opened_a_second=crowd.opened,
        )
        costs = ", ".join(
            f"{statistics.median(size.cpu_us[c]):.0f} µs at {c} at once "
            f"({statistics.median(size.ratios(c)):.2f} of that with {FEW} tunnels; "
            f"to {FEW} of them {statistics.median(size.ratios(c, hot=True)):.2f})"
            for c in plan.connections
        )
        say(
            f"{tunnels:,} tunnels: {size.kib_each:.1f} KiB each, {idle:.2f} % of a core at rest, a webhook "
            f"{costs}, p99 {size.p99_ms:.1f} ms"
        )
        return size

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
        say(
            f"{whole:,} tunnels over {count} relays: {answered:,} webhooks answered in {took:.1f} s, 0 failed"
        )
        return {"tunnels": whole, "relays": count, "answered": answered, "failed": 0, "seconds": took}


HEADINGS = (
    "tunnels", "KiB each", "conductor KiB each", "idle % of a core", "p50 ms", "p99 ms", "max ms", "opened/s",
)  # fmt: skip
COSTS = (
    "tunnels", "at once", f"CPU µs with {FEW} tunnels", f"to {FEW} of them", "ratio", "to random ones",
    "ratio", "ratios of the rounds",
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
        sizes.extend(going.at(tunnels) for tunnels in plan.sizes)
        if plan.whole:
            whole = going.whole()
    rows = [
        (
            size.tunnels, size.kib_each, size.conductor_kib_each, size.idle_percent,
            size.p50_ms, size.p99_ms, size.max_ms, size.opened_a_second,
        )
        for size in sizes
    ]  # fmt: skip
    costs = [
        (
            size.tunnels, count, statistics.median(size.few_us[count]),
            statistics.median(size.hot_us[count]), statistics.median(size.ratios(count, hot=True)),
            statistics.median(size.cpu_us[count]), statistics.median(size.ratios(count)),
            ", ".join(
                f"{hot:.2f}/{many:.2f}"
                for hot, many in zip(size.ratios(count, hot=True), size.ratios(count), strict=True)
            ),
        )
        for size in sizes
        for count in plan.connections
    ]  # fmt: skip
    text = f"{markdown(HEADINGS, rows)}\n\n{markdown(COSTS, costs)}"
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
    found = [
        Figure("memory of a tunnel", "KiB", where, [size.kib_each]),
        Figure("relay at rest", "% of a core", where, [size.idle_percent]),
        Figure("p99", "ms", where, [size.p99_ms]),
    ]
    for count, used in size.cpu_us.items():
        at_once = where | {"at once": count}
        found.append(Figure("CPU per webhook", "µs", at_once, used))
        found.append(Figure("CPU per webhook by that with ten", "", at_once, size.ratios(count)))
        few = size.ratios(count, hot=True)
        found.append(Figure("CPU per webhook to ten of them by that with ten", "", at_once, few))
    return found


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    standard = Plan()
    parser.add_argument("--sizes", default=",".join(map(str, standard.sizes)), help="tunnels on one relay")
    parser.add_argument("--whole", type=int, default=standard.whole, help="over three relays; 0: leave out")
    parser.add_argument("--idle", type=float, default=standard.idle, help="seconds of rest at each size")
    parser.add_argument("--seconds", type=float, default=standard.seconds, help="of each round of webhooks")
    parser.add_argument("--rounds", type=int, default=standard.rounds)
    parser.add_argument("--connections", default=",".join(map(str, standard.connections)))
    parser.add_argument("--rate", type=float, default=standard.rate, help="webhooks a second, for the p99")


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    sizes = tuple(sorted(int(size) for size in args.sizes.split(",")))
    connections = tuple(int(count) for count in args.connections.split(","))
    return run(Plan(sizes, args.whole, args.idle, args.seconds, args.rounds, connections, args.rate))
