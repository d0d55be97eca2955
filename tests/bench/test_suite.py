"""The table of scenarios and the run of all of them, with scenarios of the tests' own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from bench import suite
from bench.suite import SCENARIOS, Progress, Scenario, parse, run_one, summary


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.seconds], ids=lambda scenario: scenario.name)
def test_every_line_of_the_suite_leads_to_a_scenario_that_takes_its_options(scenario: Scenario) -> None:
    chosen, args = parse([scenario.name, *scenario.options])
    assert chosen is scenario
    assert callable(scenario.module().main)
    assert args.scenario == scenario.name


def test_the_suite_is_to_take_less_than_a_quarter_of_an_hour() -> None:
    assert 0 < sum(scenario.seconds for scenario in SCENARIOS) < 15 * 60


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(suite, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def program(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """Have the suite run this instead of a scenario."""
    path = folder / "program.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setattr("bench.suite.sys.executable", str(path))


def test_a_scenarios_text_goes_into_the_summary(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(monkeypatch, tmp_path, 'echo "ran $3"; echo noise >&2')
    one, out = Scenario("one", "the first", 10.0), io.StringIO()
    done = run_one(one, ("--fast",), Progress([one, Scenario("two", "the second", 30.0)], out))
    assert (done.text, done.complaint) == ("ran one", "")
    assert (results / "one.log").read_text() == "noise\n"
    assert out.getvalue().splitlines()[0] == "  0%  one, 0 s"
    assert "one: done after" in out.getvalue()
    assert "\r" not in out.getvalue()  # plain lines where there is no terminal
    assert "ran one" in summary([done])
    assert summary([done]).endswith("none failed")


def test_a_scenario_that_fails_tells_why(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(monkeypatch, tmp_path, 'echo "3 webhooks failed" >&2; exit 1')
    one = Scenario("one", "the first", 10.0)
    done = run_one(one, (), Progress([one], io.StringIO()))
    assert "exit status 1" in done.complaint
    assert "3 webhooks failed" in done.complaint
    assert summary([done]).endswith("failed: one")


def test_a_scenario_that_hangs_is_ended(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(monkeypatch, tmp_path, "exec sleep 60")
    one = Scenario("one", "the first", 10.0)
    assert run_one(one, (), Progress([one], io.StringIO()), limit=0.1).complaint


class Terminal(io.StringIO):
    """Something that passes for a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_never_goes_back() -> None:
    scenarios = [Scenario("one", "", 10.0), Scenario("two", "", 30.0)]
    out = Terminal()
    progress = Progress(scenarios, out)
    progress.show(scenarios[0], 5.0)
    progress.show(scenarios[0], 50.0)  # takes longer than it should
    progress.over(suite.Done(scenarios[0], 50.0, ""))
    progress.show(scenarios[1], 15.0)
    shares = [int(part.split("%")[0].split()[-1]) for part in out.getvalue().split("]")[1:]]
    assert shares == [12, 25, 62]
