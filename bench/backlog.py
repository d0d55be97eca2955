"""Scenario `backlog`: webhooks stored while nobody is connected, then delivered to one tunnel.

Embedded: `whook serve`, whose queue is SQLite. Clustered: auth, one conductor and one relay on a Redis that
writes through and a PostgreSQL. First the senders: each webhook must be answered 202, which says that it is
durable. Then the tunnel comes, answers all of them, and counts: every event must arrive, once. Told are both
rates, CPU for each event by process, and memory all the while.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.figures import Figure, Series, Where
from bench.process import BenchError, Child, cpu_of
from bench.report import markdown, save
from bench.sampling import Sampler
from bench.server import OPEN_DOOR, whook_serve
from tests.support.cluster import running_cluster

PROJECT = "bench"
PATIENCE = 900.0
"""Seconds in which all must be stored, and in which all must be delivered."""


@dataclass(frozen=True, slots=True)
class Store:
    """What runs: where senders and the client go, the token, and the processes by name."""

    ingress: int
    api: str
    token: str
    pids: dict[str, int]
    families: frozenset[str] = frozenset()
    """Processes whose children count too."""

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU of each process."""
        return {name: cpu_of(pid, family=name in self.families) for name, pid in self.pids.items()}


@contextmanager
def embedded() -> Iterator[Store]:
    """Run the all-in-one server."""
    with whook_serve() as server:
        yield Store(server.ingress, server.api, server.token, {"server": server.child.pid})


@contextmanager
def clustered() -> Iterator[Store]:
    """Run a small cluster that may store webhooks."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="whook-bench-")))
        cluster = stack.enter_context(
            running_cluster(
                folder, conductors=1, relays=1, settings=dict(OPEN_DOOR), durable=True, balanced=False
            )
        )
        conductor, relay = cluster.conductors[0], cluster.relays[0]
        assert conductor.process is not None
        assert relay.process is not None
        pids = {
            "conductor": conductor.process.pid,
            "relay": relay.process.pid,
            "redis": cluster.redis.pid,
            "postgres": cluster.postgres.pid,
        }
        yield Store(conductor.ports[0], cluster.api(), cluster.token, pids, frozenset({"postgres"}))


SHAPES = {"embedded": embedded, "clustered": clustered}


@dataclass(frozen=True, slots=True)
class Phase:
    """Storing or delivering: how fast, and CPU in µs for an event by process."""

    shape: str
    name: str
    events: int
    seconds: float
    cpu_us: dict[str, float]
    most: dict[str, float]
    """MiB of resident memory at the most."""
    grown: dict[str, float]
    """MiB over what there was before."""


def far_end(store: Store, *options: str) -> Child:
    """Start the client that counts what it gets."""
    command = ("-m", "bench.backlog_end", store.api, "--project", PROJECT, *options)
    return Child(*command, name="far end", env={"WHOOK_TOKEN": store.token})


def run(shape: str, events: int, size: int, connections: int) -> tuple[list[Phase], list[Series]]:
    """Store and deliver once. Raises BenchError when an event is refused, lost or repeated."""
    with SHAPES[shape]() as store:
        with far_end(store) as first:  # which makes the project
            first.message()
        send(store, 200, size, connections)  # once for code and buffers
        with far_end(store, "--events", "200") as early:
            early.message()
            early.message(PATIENCE)
        phases: list[Phase] = []
        series: list[Series] = []
        for name in ("store", "deliver"):
            before, began = store.cpu(), time.monotonic()
            with Sampler(store.pids, every=0.25) as memory:
                if name == "store":
                    send(store, events, size, connections)
                    seconds = time.monotonic() - began
                else:
                    seconds = deliver(store, events)
            after = store.cpu()
            phase = Phase(
                shape,
                name,
                events,
                seconds,
                {of: (after[of] - before[of]) / events * 1e6 for of in after},
                {of: memory.most(of) for of in store.pids},
                {of: memory.most(of) - memory.first(of) for of in store.pids},
            )
            phases.append(phase)
            series += memory.series(phase=name, shape=shape)
            parts = ", ".join(
                f"{of} {used:.0f} µs, {phase.most[of]:.0f} MiB" for of, used in phase.cpu_us.items()
            )
            sys.stderr.write(f"{shape}, {name}: {events / seconds:,.0f} events/s; {parts}\n")
    return phases, series


def send(store: Store, events: int, size: int, connections: int) -> None:
    """Send so many webhooks that must all be stored."""
    command = ["-m", "bench.load", str(store.ingress), "--host", f"{PROJECT}.localhost:{store.ingress}"]
    command += ["--connections", str(connections), "--size", str(size), "--status", "202"]
    with Child(*command, "--requests", str(events), name="senders") as senders:
        senders.message()
        end = senders.message(PATIENCE)
    if end["errors"] or end["requests"] != events:
        raise BenchError(f"{end['requests']:,} of {events:,} webhooks were stored: {end['errors'][:3]}")


def deliver(store: Store, events: int) -> float:
    """Let the tunnel come and take all; give the seconds from its first event to its last."""
    with far_end(store, "--events", str(events)) as client:
        client.message()
        end = client.message(PATIENCE)
    if end["events"] != events or end["repeated"]:
        raise BenchError(f"{end['events']:,} of {events:,} events came, {end['repeated']:,} of them again")
    return float(end["seconds"])


def report(phases: list[Phase], series: list[Series]) -> str:
    """Save the results; give the table."""
    together: dict[tuple[str, str], list[Phase]] = {}
    for phase in phases:
        together.setdefault((phase.shape, phase.name), []).append(phase)
    figures: list[Figure] = []
    rows: list[tuple[object, ...]] = []
    for (shape, name), own in together.items():
        where: Where = {"shape": shape, "phase": name, "events": own[0].events}
        rate = Figure("events per second", "/s", where, [p.events / p.seconds for p in own], "higher")
        figures.append(rate)
        parts: list[str] = []
        for of in own[0].cpu_us:
            cpu = Figure("CPU per event", "µs", {**where, "process": of}, [p.cpu_us[of] for p in own])
            most = Figure("memory at the most", "MiB", {**where, "process": of}, [p.most[of] for p in own])
            grown = max(p.grown[of] for p in own)
            figures += (cpu, most)
            parts.append(f"{of} {cpu.median:,.0f} µs, {most.median:,.0f} MiB (+{grown:,.0f})")
        rows.append((shape, name, own[0].events, rate.median, "; ".join(parts)))
    table = markdown(("shape", "phase", "events", "events/s", "CPU for an event, memory at the most"), rows)
    results: list[dict[str, object]] = [
        {"shape": p.shape, "phase": p.name, "events": p.events, "seconds": p.seconds, "grown": p.grown}
        for p in phases
    ]
    return f"{table}\n\n{save('backlog', results, table, figures=figures, series=series)}"


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--shape", choices=(*SHAPES, "both"), default="both")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=1024, help="bytes of each body")
    parser.add_argument("--connections", type=int, default=64, help="of the senders")
    parser.add_argument("--rounds", type=int, default=1)


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    phases: list[Phase] = []
    curves: list[Series] = []
    for shape in SHAPES if args.shape == "both" else (args.shape,):
        for _ in range(args.rounds):
            found, series = run(shape, args.events, args.size, args.connections)
            phases += found
        curves += series  # of the last round
    return report(phases, curves)
