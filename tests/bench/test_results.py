"""Results: stored and read again, compared by their noise, drawn."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from bench import compare, report
from bench.figures import Better, Figure, Series, distribution
from bench.process import BenchError
from bench.report import Stored, save


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep results out of bench/results."""
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    return tmp_path


def figure(*rounds: float, better: Better = "lower", system: str = "server") -> Figure:
    """One figure with these rounds."""
    return Figure("CPU per request", "µs", {"system": system, "connections": 16}, rounds, better)


def write(name: str, *figures: Figure, series: tuple[Series, ...] = ()) -> Path:
    """Store a result; give its JSON file."""
    return save(name, [{"kept": 1}], "a table", figures=figures, series=series).with_suffix(".json")


def test_what_is_stored_is_read_again() -> None:
    curve = Series("resident memory", "s", "MiB", {"process": "relay"}, [(0.0, 60.0), (1.0, 61.5)])
    found = Stored.read(write("stored", figure(3.0, 1.0, 2.0), series=(curve,)))
    assert found.scenario == "stored"
    assert found.figures[0].rounds == [3.0, 1.0, 2.0]
    assert found.figures[0].median == 2.0
    assert found.series == [curve]
    assert found.results == [{"kept": 1}]
    assert found.machine["versions"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 1}', '{"format": 2}', "no JSON"])
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"other\.json|Expecting"):
        Stored.read(path)


@pytest.mark.parametrize(
    ("before", "after", "better", "verdict"),
    [
        ((100, 101, 102), (80, 81, 82), "lower", "better"),
        ((100, 101, 102), (120, 121, 122), "lower", "worse"),
        ((100, 101, 102), (80, 81, 82), "higher", "worse"),
        ((100, 101, 102), (120, 121, 122), "neither", "changed"),
        ((90, 100, 110), (95, 105, 115), "lower", "noise"),  # rounds of one lie among the other's
        ((100, 101, 120), (121, 135, 150), "lower", "worse"),
        ((80, 100, 119), (120, 121, 180), "lower", "noise"),  # apart, but by less than both spread
        ((100,), (120,), "lower", "noise"),  # one round knows nothing of its noise
        ((100,), (130,), "lower", "worse"),
        ((0, 0, 0), (0, 0, 0), "lower", "noise"),
    ],
)
def test_a_change_is_told_from_noise(
    before: tuple[float, ...], after: tuple[float, ...], better: Better, verdict: str
) -> None:
    assert compare.change(figure(*before, better=better), figure(*after, better=better)).verdict == verdict


def test_two_files_are_compared() -> None:
    first = write("first", figure(100, 101, 102), figure(5, 5, 5, system="gone"))
    second = write("second", figure(50, 51, 52), figure(7, 7, 7, system="new"))
    text = compare.main(Namespace(before=first, after=second))
    assert "-49.5%" in text
    assert "1 figures: 1 better; 2 are in one of the files only" in text


def test_files_without_a_common_figure_are_not_compared() -> None:
    first, second = write("first", figure(1)), write("second", figure(1, system="other"))
    with pytest.raises(BenchError, match="no figure in common"):
        compare.main(Namespace(before=first, after=second))


def test_a_distribution_has_its_tail() -> None:
    curve = distribution("latency", [float(n) for n in range(10_000, 0, -1)], {})
    assert curve.points[-1] == (1.0, 10_000.0)
    assert [y for x, y in curve.points if 0.98 < x < 0.9905][-1] == pytest.approx(9_900, rel=0.01)
    assert distribution("latency", [], {}).points == []


def test_plots_are_drawn() -> None:
    pytest.importorskip("matplotlib")
    curve = distribution("latency", [1.0, 2.0, 300.0], {"phase": "live"})
    sizes = [
        Figure("p99", "ms", {"connections": n, "bytes": b}, [1.0, 2.0]) for n in (1, 16) for b in (1, 64)
    ]
    path = write("drawn", figure(1, 2, 3), figure(2, 3, 4, system="other"), *sizes, series=(curve,))
    pictures = {found.name.removeprefix(path.stem) for found in path.parent.glob("*.png")}
    assert pictures == {"-latency.png", "-p99.png", "-cpu-per-request.png"}


def test_without_matplotlib_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = write("undrawn", figure(1, 2, 3))
    assert "matplotlib is not installed" in capsys.readouterr().err
    assert list(path.parent.glob("*.png")) == []
    assert json.loads(path.read_text())["figures"][0]["median"] == 2
