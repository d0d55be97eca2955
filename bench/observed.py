"""Scenario `observed`: what metrics and logs cost a request, as a ratio between two servers in one run.

Two `whook serve` take turns under the same load: one as it is shipped, logging JSON from `info` on and
scraped three times as often as the shipped configuration has it; and one whose every count on the way of a
webhook was taken out of a copy of the source, which logs errors only and is never scraped. Neither records a
history, so that the counting weighs more. Run by `python -m bench.observed`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.process import BenchError, Child
from bench.report import markdown, save
from bench.server import whook_serve
from bench.throughput import PROJECT, Cell, System, measure

SOURCE = Path(__file__).parents[1] / "src"
SCRAPES = 5.0
"""Seconds between two scrapes; prometheus.yml has 15."""
WARM_UP = 1.0

COUNTING = {
    "whook/chassis/daemon.py": ["services.start_soon(metrics.measure_loop_lag)"],
    "whook/chassis/tcp.py": ["stats.accepted += 1"],
    "whook/link/core.py": ["self._traffic.sent += size", "traffic.received += len(data)"],
    "whook/link/exchange.py": ["self.head_came(exchange, event)"],
    "whook_conductor/service.py": ['infrastructure.start_soon(parts.queue_size.run, name="queue size")'],
    "whook_relay/switch.py": [
        "self.opened += 1",
        "self.seconds.observe(time.monotonic() - circuit.began)",
    ],
}
"""Statements that only count, by the file that they are in."""
REPLACED = {
    "whook_conductor/service.py": [("[self.totals.add, *consumers, ", "[*consumers, ")],
    "whook_conductor/trunks.py": [("            tally=self._tally,\n", "")],
    "whook_relay/switch.py": [("tunnel.last_id, time.monotonic())", "tunnel.last_id)")],
}
"""Parts of statements that do, and what is there without them."""


def strip(folder: Path) -> Path:
    """Copy the source without what counts; raises BenchError when it is not where it was."""
    stripped = folder / "src"
    shutil.copytree(SOURCE, stripped, ignore=shutil.ignore_patterns("__pycache__"))
    changes = [(name, one, "pass") for name, many in COUNTING.items() for one in many]
    changes += [(name, old, new) for name, many in REPLACED.items() for old, new in many]
    for name, old, new in changes:
        path = stripped / name
        text = path.read_text("utf-8")
        if text.count(old) != 1:
            raise BenchError(
                f"{old!r} is {text.count(old)} times in {name}: bring bench/observed.py up to date"
            )
        path.write_text(text.replace(old, new), "utf-8")
    return stripped


@contextmanager
def server(name: str, source: Path, *options: str) -> Iterator[tuple[System, str]]:
    """Run a server from this source, with a client at its far end; gives the URL of its metrics too."""
    env = {"WHOOK_CONDUCTOR_HISTORY": "false", "PYTHONPATH": str(source)}
    with whook_serve(*options, env=env) as found:
        command = ("-m", "bench.far_end", "answer", found.api, "--project", PROJECT)
        with Child(*command, name="far end", env={"WHOOK_TOKEN": found.token}) as far_end:
            far_end.message()
            host = f"{PROJECT}.localhost:{found.ingress}"
            yield System(name, {"server": found.child}, found.ingress, host), found.child.complaints()


@contextmanager
def scraping(log: str) -> Iterator[None]:
    """Scrape the server whose log this is until the block ends."""
    address = log.partition('"admin": "')[2].partition('"')[0]
    over, failed = threading.Event(), list[str]()

    def scrape() -> None:
        while not over.wait(SCRAPES):
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=SCRAPES) as answer:
                if b"whook_requests_total" not in answer.read():
                    failed.append("the scraped server does not count")

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failed:
        raise BenchError(failed[0])


def run(connections: int, size: int, seconds: float, rounds: int) -> str:
    """Measure; give the table."""
    cells: list[Cell] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="whook-bench-")))
        off, _ = stack.enter_context(server("without", strip(folder), "--log-level", "error"))
        shipped = ("--log-level", "info", "--log-format", "json")
        on, log = stack.enter_context(server("with metrics and logs", SOURCE, *shipped))
        stack.enter_context(scraping(log))
        for system in (off, on):
            measure(system, connections, size, WARM_UP)
        for n in range(rounds):
            for system in (off, on) if n % 2 == 0 else (on, off):
                cell = measure(system, connections, size, seconds)
                cells.append(replace(cell, system=system.name))
                sys.stderr.write(
                    f"{cell.system:22} {cell.cpu_us:6.1f} µs, {cell.requests_per_second:,.0f}/s\n"
                )
    plain = [cell for cell in cells if cell.system == off.name]
    counted = [cell for cell in cells if cell.system == on.name]
    ratios = sorted(b.cpu_us / a.cpu_us for a, b in zip(plain, counted, strict=True))
    table = markdown(
        ("connections", "bytes", "without µs", "with µs", "ratio", "median of rounds", "quiet quarter"),
        [
            (
                connections,
                size,
                mean(plain),
                mean(counted),
                mean(counted) / mean(plain),
                statistics.median(ratios),
                quiet(counted) / quiet(plain),
            )
        ],
    )
    path = save("observed", [asdict(cell) for cell in cells], table)
    return f"{table}\n\nratios of the rounds: {', '.join(f'{r:.3f}' for r in ratios)}\n{path}"


def mean(cells: list[Cell]) -> float:
    """Give the CPU time of a request over all rounds, in microseconds."""
    return sum(cell.cpu_us * cell.requests for cell in cells) / sum(cell.requests for cell in cells)


def quiet(cells: list[Cell]) -> float:
    """Give the same over the quarter of the rounds that were least disturbed by the machine's other work."""
    return mean(sorted(cells, key=lambda cell: cell.cpu_us)[: max(1, len(cells) // 4)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.observed", description=__doc__)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=0.7, help="length of each measurement")
    parser.add_argument(
        "--rounds", type=int, default=40, help="short and many: the machine's other work evens out"
    )
    arguments = parser.parse_args()
    print(run(arguments.connections, arguments.size, arguments.seconds, arguments.rounds))
