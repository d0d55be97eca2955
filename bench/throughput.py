"""Scenario `throughput`: CPU per request, requests per second and latency, beside references in the same run.

Four systems take the same load: whook's server with a cheap far end, whook's server with the real CLI and a
local server behind it, a bare hypercorn application, and a bare httptools server.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from bench.process import BenchError, Child
from bench.report import markdown, save
from bench.server import whook_serve

PROJECT = "bench"


@dataclass(frozen=True, slots=True)
class System:
    """Something under load: its processes by name, and where the load goes."""

    name: str
    processes: dict[str, Child]
    port: int
    host: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: CPU in microseconds per request of each process, and what the sender saw."""

    system: str
    connections: int
    size: int
    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    cpu_us_by_process: dict[str, float]


@contextmanager
def reference(name: str) -> Iterator[System]:
    """Run a bare server."""
    with Child("-m", "bench.references", name, name=name) as child:
        yield System(f"bare {name}", {name: child}, child.message()["port"], "localhost")


@contextmanager
def cheap_far_end() -> Iterator[System]:
    """Run the real server; its tunnel ends in the cheapest client."""
    with whook_serve() as server:
        command = ("-m", "bench.far_end", "answer", server.api, "--project", PROJECT)
        with Child(*command, name="far end", env={"WHOOK_TOKEN": server.token}) as far_end:
            far_end.message()
            host = f"{PROJECT}.localhost:{server.ingress}"
            yield System("whook server", {"server": server.child}, server.ingress, host)


@contextmanager
def whole_path() -> Iterator[System]:
    """Run the real server, the real CLI, and a local server."""
    with ExitStack() as stack:
        server = stack.enter_context(whook_serve())
        local = stack.enter_context(Child("-m", "bench.references", "httptools", name="local server"))
        target = f"http://127.0.0.1:{local.message()['port']}"
        command = (
            "-m",
            "whook_cli",
            "connect",
            PROJECT,
            "--server",
            server.api,
            "--forward",
            target,
            "--json",
        )
        env = {"WHOOK_TOKEN": server.token, "HOME": str(server.home)}
        cli = stack.enter_context(Child(*command, name="whook connect", env=env))
        while cli.message()["event"] != "ready":
            pass
        processes = {"server": server.child, "cli": cli, "local": local}
        yield System("whook whole path", processes, server.ingress, f"{PROJECT}.localhost:{server.ingress}")


SYSTEMS: dict[str, Callable[[], object]] = {
    "server": cheap_far_end,
    "path": whole_path,
    "hypercorn": lambda: reference("hypercorn"),
    "httptools": lambda: reference("httptools"),
}


def measure(system: System, connections: int, size: int, seconds: float) -> Cell:
    """Load a system for a while; raises BenchError on any failed request."""
    load = Child(
        *("-m", "bench.load", str(system.port), "--host", system.host, "--connections", str(connections)),
        *("--size", str(size), "--seconds", str(seconds)),
        name="load",
    )
    with load:
        start = load.message()
        before = {name: child.cpu() for name, child in system.processes.items()}
        end = load.message() if not start["errors"] else start
        after = {name: child.cpu() for name, child in system.processes.items()}
    if end["errors"] or not end["requests"]:
        raise BenchError(f"{system.name}, {connections} connections, {size} bytes: {end['errors'][:3]}")
    requests = end["requests"]
    used = {name: (after[name] - before[name]) / requests * 1e6 for name in before}
    return Cell(
        system=system.name,
        connections=connections,
        size=size,
        requests=requests,
        requests_per_second=requests / end["seconds"],
        p50_ms=end["p50_ms"],
        p99_ms=end["p99_ms"],
        cpu_us=sum(used.values()),
        cpu_us_by_process=used,
    )


def run(names: Sequence[str], connections: Sequence[int], sizes: Sequence[int], seconds: float) -> list[Cell]:
    """Measure every system in every cell, telling each as it comes."""
    cells: list[Cell] = []
    for name in names:
        with SYSTEMS[name]() as system:  # type: ignore[attr-defined]
            for count in connections:
                for size in sizes:
                    cell = measure(system, count, size, seconds)
                    cells.append(cell)
                    sys.stderr.write(
                        f"{cell.system:18} {count:4} connections {size:>9,} B: {cell.cpu_us:9,.0f} µs CPU, "
                        f"{cell.requests_per_second:8,.0f} requests/s, p99 {cell.p99_ms:7.1f} ms\n"
                    )
    return cells


def report(cells: Sequence[Cell]) -> str:
    """Give the table, with each cell's CPU as a share of the bare hypercorn application's."""
    bare = {(c.connections, c.size): c.cpu_us for c in cells if c.system == "bare hypercorn"}
    headings = (
        "system",
        "connections",
        "bytes",
        "CPU µs",
        "/ hypercorn",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "of which",
    )
    rows = []
    for c in sorted(cells, key=lambda c: (c.size, c.connections)):
        base = bare.get((c.connections, c.size), 0.0)
        parts = ", ".join(f"{name} {used:,.0f}" for name, used in c.cpu_us_by_process.items())
        ratio = c.cpu_us / base if base else 0.0
        rows.append(
            (
                c.system,
                c.connections,
                c.size,
                c.cpu_us,
                ratio,
                c.requests_per_second,
                c.p50_ms,
                c.p99_ms,
                parts,
            )
        )
    table = markdown(headings, rows)
    path = save("throughput", [asdict(c) for c in cells], table)
    return f"{table}\n\n{path}"


def numbers(text: str) -> list[int]:
    """Read "1,16,64" or "1k,64k,1m"."""
    units = {"k": 1024, "m": 1024 * 1024}
    return [int(n.rstrip("km")) * units.get(n[-1:], 1) for n in text.lower().split(",")]


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--connections", type=numbers, default=[1, 16, 64])
    parser.add_argument("--sizes", type=numbers, default=numbers("1k,64k,1m"))
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="which of %(default)s")


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    return report(run(args.systems.split(","), args.connections, args.sizes, args.seconds))
