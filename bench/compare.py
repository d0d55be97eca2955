"""`python -m bench compare A.json B.json`: what has changed between two results, and what is beyond noise.

Figures are matched by name and by what they are of. Each has its rounds, so the noise is in the files: two
figures differ beyond noise when no round of one lies among the rounds of the other and the medians differ by
more than the spreads of both together. A figure of fewer than `ENOUGH` rounds tells nothing about its own
noise, so for it a change must exceed `BLIND`. What the in-run references have changed by is shown as well:
when they moved, the machine did. Judges no figure good enough, and ends with 0 whatever it finds.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure
from bench.process import BenchError
from bench.report import Stored, markdown

ENOUGH = 3
"""Rounds from which on the spread of a figure is believed."""
BLIND = 0.25
"""Share by which a figure of fewer rounds must change before it is told as a change."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both files.

    Attributes:
        share: change of the median, as a share of the first; 0.1 is ten percent more.
        noise: share within which a change says nothing.
        beyond: whether it is beyond noise.
    """

    before: Figure
    after: Figure
    share: float
    noise: float
    beyond: bool

    @property
    def verdict(self) -> str:
        """Say it in a word."""
        if not self.beyond:
            return "noise"
        if self.before.better == "neither":
            return "changed"
        return "better" if (self.share < 0) == (self.before.better == "lower") else "worse"


def change(before: Figure, after: Figure) -> Change:
    """Compare a figure of two runs."""
    base = abs(before.median)
    delta = after.median - before.median
    if not base:
        return Change(before, after, 0.0 if not delta else float("inf"), 0.0, bool(delta))
    share = delta / base
    if min(len(before.rounds), len(after.rounds)) < ENOUGH:
        return Change(before, after, share, BLIND, abs(share) > BLIND)
    spread = (_half(before) + _half(after)) / base
    apart = min(after.rounds) > max(before.rounds) or max(after.rounds) < min(before.rounds)
    return Change(before, after, share, spread, apart and abs(share) > spread)


def _half(figure: Figure) -> float:
    return (max(figure.rounds) - min(figure.rounds)) / 2


def compare(first: Stored, second: Stored) -> str:
    """Give the table of all figures that both have, the greatest changes beyond noise first.

    Raises BenchError when they have none in common.
    """
    old, new = _by_key(first), _by_key(second)
    changes = [change(old[key], new[key]) for key in old if key in new]
    if not changes:
        raise BenchError(f"{first.scenario} and {second.scenario} have no figure in common")
    changes.sort(key=lambda c: (not c.beyond, -abs(c.share)))
    rows = [
        (
            c.before.name,
            ", ".join(f"{key} {value}" for key, value in c.before.where.items()),
            c.before.unit,
            c.before.median,
            c.after.median,
            f"{c.share:+.1%}",
            f"±{c.noise:.1%}",
            c.verdict,
        )
        for c in changes
    ]
    headings = ("figure", "of", "unit", "before", "after", "change", "noise", "verdict")
    counts = {
        word: sum(c.verdict == word for c in changes) for word in ("better", "worse", "changed", "noise")
    }
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    only = len(old) + len(new) - 2 * len(changes)
    lines = [_about("before", first), _about("after", second), "", markdown(headings, rows), ""]
    lines.append(f"{len(changes)} figures: {told}; {only} are in one of the files only")
    return "\n".join(lines)


def _by_key(stored: Stored) -> dict[object, Figure]:
    return {figure.key: figure for figure in (*stored.figures, *stored.references)}


def _about(name: str, stored: Stored) -> str:
    machine = stored.machine
    commit = str(machine.get("commit", ""))[:10]
    dirty = f" and {machine['changed_files']} changed files" if machine.get("changed_files") else ""
    return (
        f"{name}: {stored.scenario}, commit {commit}{dirty}, {machine.get('date')}, "
        f"{machine.get('cpu')}, load {machine.get('load')}"
    )


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    try:
        return compare(Stored.read(args.before), Stored.read(args.after))
    except ValueError as error:
        raise BenchError(str(error)) from error
