"""All scenarios, in one table, and the run of the whole suite: `nox -s bench` without arguments.

A scenario is a module with `add_arguments(parser)` and `main(args) -> str`, the text to print. The suite runs
each in a process of its own, so that none inherits another's memory, with the sizes of the table; it shows a
bar on a terminal and plain lines elsewhere, and prints one summary. A scenario that fails does not keep the
others from running, but makes the suite fail.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TextIO

from bench.report import RESULTS

LIMIT = 600.0
"""Seconds after which a scenario of the suite is ended."""
_BAR = 30
_LINES = 20.0
"""Seconds between two lines about the same scenario where there is no terminal."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table.

    Attributes:
        name: on the command line; the module is `bench.NAME` with "-" as "_".
        about: one line of help.
        seconds: how long it takes in the suite, for the bar. 0: it is not part of the suite.
        options: of the suite's run, where they differ from the standard ones.
    """

    name: str
    about: str
    seconds: float = 0.0
    options: tuple[str, ...] = ()

    def module(self) -> Any:
        """Import it."""
        return import_module(f"bench.{self.name.replace('-', '_')}")


SCENARIOS = (
    Scenario("throughput", "CPU per request beside references", 130, ("--rounds", "2", "--seconds", "0.8")),
    Scenario("idle", "memory for each idle tunnel", 30),
    Scenario("tunnels", "what tunnels cost as they grow in number", 300),
    Scenario("fan", "webhooks to random ones of many tunnels at a fixed rate", 75),
    Scenario("storm", "every tunnel drops at once", 80),
    Scenario("stream", "a gigabyte through one exchange, up and down", 45, ("--mib", "512", "--rounds", "2")),
    Scenario("slow", "stalled receivers beside live ones", 45),
    Scenario("backlog", "buffered webhooks delivered to one tunnel", 60, ("--events", "20000")),
    Scenario("history", "what recording costs a request", 60),
    Scenario("compare", "what has changed between two results"),
    Scenario("plots", "draw stored results again"),
)


def parse(arguments: Sequence[str]) -> tuple[Scenario, argparse.Namespace]:
    """Read the command line of one scenario."""
    parser = argparse.ArgumentParser(prog="bench", description="Measurements of whook: see bench/README.md.")
    commands = parser.add_subparsers(dest="scenario", required=True)
    for scenario in SCENARIOS:
        chosen = commands.add_parser(scenario.name, help=scenario.about)
        if scenario.name in arguments[:1]:
            scenario.module().add_arguments(chosen)
    args = parser.parse_args(arguments)
    return next(s for s in SCENARIOS if s.name == args.scenario), args


@dataclass(slots=True)
class Done:
    """How a scenario of the suite went."""

    scenario: Scenario
    seconds: float
    text: str
    complaint: str = ""
    """Why it failed: the end of its standard error."""


class Progress:
    """The bar, or the lines."""

    def __init__(self, scenarios: Sequence[Scenario], out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._whole = sum(s.seconds for s in scenarios)
        self._past = 0.0
        self._told = 0.0

    def show(self, scenario: Scenario, taken: float) -> None:
        """Tell how far the running scenario is."""
        done = self._past + min(taken, scenario.seconds)
        share = done / self._whole
        if self._terminal:
            bar = "#" * round(share * _BAR)
            self._out.write(f"\r[{bar:<{_BAR}}] {share:4.0%}  {scenario.name}, {taken:.0f} s \x1b[K")
        elif taken >= self._told + _LINES or not taken:
            self._told = taken
            self._out.write(f"{share:4.0%}  {scenario.name}, {taken:.0f} s\n")
        self._out.flush()

    def over(self, done: Done) -> None:
        """Tell that a scenario has ended."""
        self._past += done.scenario.seconds
        self._told = 0.0
        state = "failed" if done.complaint else "done"
        clear = "\r\x1b[K" if self._terminal else ""
        self._out.write(f"{clear}{done.scenario.name}: {state} after {done.seconds:.0f} s\n")
        self._out.flush()


def run_one(scenario: Scenario, options: Sequence[str], progress: Progress, limit: float = LIMIT) -> Done:
    """Run a scenario in a process of its own."""
    RESULTS.mkdir(exist_ok=True)
    log = RESULTS / f"{scenario.name}.log"
    command = [sys.executable, "-m", "bench", scenario.name, *options]
    began = time.monotonic()
    progress.show(scenario, 0.0)
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        text: str | None = None
        while text is None:
            try:
                text, _ = process.communicate(timeout=0.5)
            except subprocess.TimeoutExpired:
                taken = time.monotonic() - began
                progress.show(scenario, taken)
                if taken > limit:
                    process.terminate()  # its children notice that their input has ended
                    text, _ = process.communicate()
    done = Done(scenario, time.monotonic() - began, text.strip())
    if process.returncode:
        said = log.read_text("utf-8", "replace").replace("\r", "\n")
        done.complaint = f"exit status {process.returncode}\n" + "\n".join(said.splitlines()[-15:])
    progress.over(done)
    return done


def summary(results: Sequence[Done]) -> str:
    """Give the one text about all."""
    parts = [
        f"## {done.scenario.name} ({done.seconds:.0f} s)\n\n{done.complaint or done.text}" for done in results
    ]
    failed = [done.scenario.name for done in results if done.complaint]
    seconds = sum(done.seconds for done in results)
    end = f"{len(results)} scenarios in {seconds / 60:.1f} minutes"
    parts.append(f"{end}; failed: {', '.join(failed)}" if failed else f"{end}, none failed")
    return "\n\n".join(parts)


def run(out: TextIO = sys.stderr) -> int:
    """Run the suite; give the exit status."""
    chosen = [scenario for scenario in SCENARIOS if scenario.seconds]
    progress = Progress(chosen, out)
    results = [run_one(scenario, scenario.options, progress) for scenario in chosen]
    sys.stdout.write(f"\n{summary(results)}\n")
    return 1 if any(done.complaint for done in results) else 0
