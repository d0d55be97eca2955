"""Scenario `throughput`: CPU per request, requests per second and latency, beside references in the same run.

All systems take the same load in turns: whook's server with a cheap far end, whook's server with the real CLI
and a local server behind it (nginx, or a minimal one in Python), a bare hypercorn application, a bare
httptools server.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass

from bench import nginx
from bench.figures import Figure, Where
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
def whole_path(name: str, local: Child, port: int) -> Iterator[System]:
    """Run the real server and the real CLI, which forwards to a local server that runs already."""
    with ExitStack() as stack:
        server = stack.enter_context(whook_serve())
        target = f"http://127.0.0.1:{port}"
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
        cli.drain()
        processes = {"server": server.child, "cli": cli, "local": local}
        yield System(name, processes, server.ingress, f"{PROJECT}.localhost:{server.ingress}")


@contextmanager
def path_to_python() -> Iterator[System]:
    """Run the whole path to the minimal server in Python."""
    local = Child("-m", "bench.references", "httptools", name="local server")
    with local, whole_path("whook whole path", local, local.message()["port"]) as system:
        yield system


@contextmanager
def path_to_nginx() -> Iterator[System]:
    """Run the whole path to nginx."""
    with nginx.running() as (local, port), whole_path("whook path to nginx", local, port) as system:
        yield system


SYSTEMS: dict[str, Callable[[], AbstractContextManager[System]]] = {
    "server": cheap_far_end,
    "path": path_to_python,
    "nginx": path_to_nginx,
    "hypercorn": lambda: reference("hypercorn"),
    "httptools": lambda: reference("httptools"),
}


def usual() -> list[str]:
    """Give the systems of a run that names none: the path to nginx where there is one."""
    return ["server", "nginx" if nginx.program() else "path", "hypercorn"]


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


def run(
    names: Sequence[str], connections: Sequence[int], sizes: Sequence[int], seconds: float, rounds: int = 3
) -> list[Cell]:
    """Measure every system in every cell so many times, telling each as it comes.

    All systems run at once and take turns in each cell, in an order that favours none, so that what else the
    machine does meanwhile strikes all of them alike.
    """
    cells: list[Cell] = []
    with ExitStack() as stack:
        systems = [stack.enter_context(SYSTEMS[name]()) for name in names]
        for turn in range(rounds):
            for size in sizes:
                for count in connections:
                    for system in systems if turn % 2 == 0 else reversed(systems):
                        cell = measure(system, count, size, seconds)
                        cells.append(cell)
                        sys.stderr.write(
                            f"{turn + 1}/{rounds} {cell.system:20} {count:4} connections {size:>9,} B: "
                            f"{cell.cpu_us:9,.0f} µs CPU, {cell.requests_per_second:8,.0f} requests/s, "
                            f"p99 {cell.p99_ms:7.1f} ms\n"
                        )
    return cells


def report(cells: Sequence[Cell]) -> str:
    """Save the results; give the table, with CPU as a share of the bare hypercorn application's."""
    figures = _figures(cells)
    ours = [f for f in figures if not str(f.where["system"]).startswith("bare ")]
    table = _table(cells, {f.key: f for f in figures})
    path = save(
        "throughput",
        [asdict(c) for c in cells],
        table,
        figures=ours,
        references=[f for f in figures if f not in ours],
    )
    return f"{table}\n\n{path}"


def _where(cell: Cell) -> Where:
    return {"system": cell.system, "connections": cell.connections, "bytes": cell.size}


def _figures(cells: Sequence[Cell]) -> list[Figure]:
    """Put the rounds of each cell together."""
    bare: dict[tuple[int, int], list[float]] = {}
    for c in cells:
        if c.system == "bare hypercorn":
            bare.setdefault((c.connections, c.size), []).append(c.cpu_us)
    together: dict[tuple[str, int, int], list[Cell]] = {}
    for c in cells:
        together.setdefault((c.system, c.connections, c.size), []).append(c)
    figures: list[Figure] = []
    for (_, *key), rounds in together.items():
        where = _where(rounds[0])
        figures.append(Figure("CPU per request", "µs", where, [c.cpu_us for c in rounds]))
        figures.append(
            Figure("requests per second", "/s", where, [c.requests_per_second for c in rounds], "higher")
        )
        figures.append(Figure("p50", "ms", where, [c.p50_ms for c in rounds]))
        figures.append(Figure("p99", "ms", where, [c.p99_ms for c in rounds]))
        base = bare.get((key[0], key[1]))
        if base is not None:
            shares = [c.cpu_us / b for c, b in zip(rounds, base, strict=True)]
            figures.append(Figure("CPU as a share of hypercorn's", "", where, shares))
        parts = rounds[0].cpu_us_by_process
        for part in parts if len(parts) > 1 else ():
            used = [c.cpu_us_by_process[part] for c in rounds]
            figures.append(Figure("CPU of one process", "µs", {**where, "process": part}, used))
    return figures


def _table(cells: Sequence[Cell], figures: dict[object, Figure]) -> str:
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
    rows: list[tuple[object, ...]] = []
    seen: set[object] = set()
    for c in sorted(cells, key=lambda c: (c.size, c.connections)):
        where = _where(c)
        if (c.system, c.connections, c.size) in seen:
            continue
        seen.add((c.system, c.connections, c.size))

        def median(name: str, where: Where = where) -> float:
            found = figures.get(Figure(name, "", where, ()).key)
            return found.median if found is not None else 0.0

        parts = [
            f"{part} {median('CPU of one process', {**where, 'process': part}):,.0f}"
            for part in (c.cpu_us_by_process if len(c.cpu_us_by_process) > 1 else ())
        ]
        rows.append(
            (
                c.system,
                c.connections,
                c.size,
                median("CPU per request"),
                median("CPU as a share of hypercorn's"),
                median("requests per second"),
                median("p50"),
                median("p99"),
                ", ".join(parts),
            )
        )
    return markdown(headings, rows)


def numbers(text: str) -> list[int]:
    """Read "1,16,64" or "1k,64k,1m"."""
    units = {"k": 1024, "m": 1024 * 1024}
    return [int(n.rstrip("km")) * units.get(n[-1:], 1) for n in text.lower().split(",")]


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--connections", type=numbers, default=[1, 16, 64, 256])
    parser.add_argument("--sizes", type=numbers, default=numbers("1k,64k,1m"))
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--systems", default=",".join(usual()), help=f"of {','.join(SYSTEMS)}; else %(default)s"
    )


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    names = args.systems.split(",")
    return report(run(names, args.connections, args.sizes, args.seconds, args.rounds))
