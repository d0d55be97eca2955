"""Scenario `history`: what recording costs a request, as a ratio between two servers in one run.

Two equal systems take turns under the same load, one with and one without a history, in an order that favours
neither (off, on, on, off …). Embedded: `whook serve`, whose process also writes to SQLite. Clustered: auth, a
relay and a conductor on a real Redis and a real PostgreSQL; counted is the CPU of the conductor, which
records through the journal on Redis and stores in PostgreSQL itself.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.process import TICK, BenchError, Child
from bench.report import markdown, save
from bench.server import OPEN_DOOR, whook_serve
from bench.throughput import PROJECT, Cell, System, measure

WARM_UP = 1.0
"""Seconds of load before the first measurement of each server."""
SETTLE = 30.0
"""Seconds that the last events get to arrive in the history."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A system, and where its history is counted."""

    system: System
    events: object
    """A function that gives the number of events in the history; None without one."""


class Process:
    """A process of another's, as `measure` needs it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK


@contextmanager
def embedded(recording: bool) -> Iterator[tuple[System, object]]:
    """Run the all-in-one server."""
    with whook_serve(env={"WHOOK_CONDUCTOR_HISTORY": str(recording).lower()}) as server:
        command = ("-m", "bench.far_end", "answer", server.api, "--project", PROJECT)
        with Child(*command, name="far end", env={"WHOOK_TOKEN": server.token}) as far_end:
            far_end.message()
            path = server.home / "data" / "conductor.sqlite3"

            def events() -> int:
                with sqlite3.connect(path) as connection:
                    return int(connection.execute("SELECT events FROM history_totals").fetchone()[0])

            host = f"{PROJECT}.localhost:{server.ingress}"
            name = "with history" if recording else "without"
            yield System(name, {"server": server.child}, server.ingress, host), events


@contextmanager
def clustered(recording: bool) -> Iterator[tuple[System, object]]:
    """Run a small cluster."""
    from tests.support.cluster import running_cluster

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="whook-bench-")))
        settings = {"WHOOK_CONDUCTOR_HISTORY": str(recording).lower(), **OPEN_DOOR}
        cluster = stack.enter_context(
            running_cluster(folder, conductors=1, relays=1, settings=settings, balanced=False)
        )
        command = ("-m", "bench.far_end", "answer", cluster.api(), "--project", PROJECT)
        far_end = stack.enter_context(Child(*command, name="far end", env={"WHOOK_TOKEN": cluster.token}))
        far_end.message()
        conductor = cluster.conductors[0]
        assert conductor.process is not None
        url = cluster.postgres.url("conductor")

        def events() -> int:
            return int(cluster.postgres.execute(url, "SELECT events FROM history_totals")[0][0])

        name = "with history" if recording else "without"
        processes = {"conductor": Process(conductor.process.pid)}
        yield (
            System(name, processes, conductor.ports[0], f"{PROJECT}.localhost:{conductor.ports[0]}"),  # type: ignore[arg-type]
            events,
        )


SHAPES = {"embedded": embedded, "clustered": clustered}


def run(shape: str, connections: int, size: int, seconds: float, rounds: int) -> str:
    """Measure; give the table."""
    cells: list[Cell] = []
    with ExitStack() as stack:
        off, _ = stack.enter_context(SHAPES[shape](recording=False))
        on, events = stack.enter_context(SHAPES[shape](recording=True))
        for system in (off, on):
            measure(system, connections, size, WARM_UP)
        before = _settled(events)
        for n in range(rounds):
            for system in (off, on) if n % 2 == 0 else (on, off):
                cell = measure(system, connections, size, seconds)
                cells.append(replace(cell, system=f"{shape}, {cell.system}"))
                sys.stderr.write(
                    f"{cell.system:12} {cell.cpu_us:6.1f} µs, {cell.requests_per_second:,.0f}/s\n"
                )
        recorded = _settled(events) - before
    without = [cell for cell in cells if cell.system.endswith("without")]
    with_it = [cell for cell in cells if not cell.system.endswith("without")]
    sent = sum(cell.requests for cell in with_it)
    if recorded < sent:
        raise BenchError(f"{recorded:,} events are in the history, but {sent:,} were sent")
    ratios = sorted(b.cpu_us / a.cpu_us for a, b in zip(without, with_it, strict=True))
    total = sum(c.cpu_us * c.requests for c in with_it) / sum(c.requests for c in with_it)
    base = sum(c.cpu_us * c.requests for c in without) / sum(c.requests for c in without)
    table = markdown(
        ("shape", "connections", "bytes", "without µs", "with µs", "ratio", "median of rounds", "recorded"),
        [(shape, connections, size, base, total, total / base, statistics.median(ratios), recorded)],
    )
    path = save(f"history-{shape}", [asdict(cell) for cell in cells], table)
    return f"{table}\n\nratios of the rounds: {', '.join(f'{r:.3f}' for r in ratios)}\n{path}"


def _settled(events: object) -> int:
    """Wait until no event comes any more; give how many there are."""
    count, ends = -1, time.monotonic() + SETTLE
    while (now := events()) != count:  # type: ignore[operator]
        if time.monotonic() > ends:
            raise BenchError("events still arrive in the history")
        count = now
        time.sleep(1.5)
    return count


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--shape", choices=tuple(SHAPES), default="embedded")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=6)


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    return run(args.shape, args.connections, args.size, args.seconds, args.rounds)
