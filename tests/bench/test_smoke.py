"""A bounded run of the scenarios about flow and cost: each must end without an error, whatever its figures.

What takes longer runs only in `nox -s bench_smoke`, or with WHOOK_TEST_CLUSTER=1.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import backlog, history, idle, nginx, report, slow, stream, throughput
from bench.report import Stored

needs_cluster = pytest.mark.skipif(
    not os.environ.get("WHOOK_TEST_CLUSTER"), reason="takes some seconds: nox -s bench_smoke"
)


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what the scenarios write out of bench/results."""
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    return tmp_path


def stored(results: Path) -> Stored:
    """Read the one result there is."""
    (path,) = results.glob("*.json")
    return Stored.read(path)


def test_throughput(results: Path) -> None:
    cells = throughput.run(["server", "hypercorn"], [2], [1024], 0.1, rounds=1)
    text = throughput.report(cells)
    assert "whook server" in text
    found = stored(results)
    assert {figure.where["system"] for figure in found.figures} == {"whook server"}
    assert {figure.where["system"] for figure in found.references} == {"bare hypercorn"}
    assert all(cell.requests for cell in cells)


@needs_cluster
@pytest.mark.skipif(not nginx.program(), reason="nginx is not installed")
def test_throughput_of_the_whole_path_to_nginx() -> None:
    (cell,) = throughput.run(["nginx"], [2], [70_000], 0.1, rounds=1)
    assert set(cell.cpu_us_by_process) == {"server", "cli", "local"}


def test_backlog(results: Path) -> None:
    phases, series = backlog.run("embedded", 20, 1024, 4)
    backlog.report(phases, series)
    assert [phase.name for phase in phases] == ["store", "deliver"]
    assert {figure.where["phase"] for figure in stored(results).figures} == {"store", "deliver"}


@needs_cluster
def test_backlog_of_a_cluster() -> None:
    phases, _ = backlog.run("clustered", 20, 1024, 4)
    assert set(phases[1].cpu_us) == {"conductor", "relay", "redis", "postgres"}


@needs_cluster
def test_stream(results: Path) -> None:
    size = 4 * 1_048_576
    stream.report(size, stream.run(size, 1, "clustered"))
    found = stored(results)
    assert {figure.where["direction"] for figure in found.figures} == {"up", "down"}
    assert {series.where["process"] for series in found.series} == {"conductor", "relay", "cli"}


@needs_cluster
def test_slow(results: Path) -> None:
    plan = slow.Plan(live=4, stalled=2, each=1, size=4_194_304, rate=20.0, seconds=0.5, rounds=1)
    slow.report(plan, *slow.run(plan))
    assert {series.name for series in stored(results).series} == {
        "resident memory",
        "latency of live webhooks",
    }


@needs_cluster
def test_history() -> None:
    assert "embedded" in history.run("embedded", 2, 100, 0.2, 1)


@needs_cluster
def test_idle() -> None:
    assert "relay alone" in idle.run(10)
