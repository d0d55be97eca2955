"""What a run has measured, in a form that every scenario shares: figures by round, and series over time.

Built by the scenarios, stored by `bench.report`, read by `bench.compare` and `bench.plots`. Never judges: a
figure keeps what each round gave, and whoever reads it makes of the spread what it will.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Better = Literal["lower", "higher", "neither"]
Where = dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity of one thing, once for each round.

    Attributes:
        name: what was measured, such as "CPU per request".
        unit: of each value, such as "µs"; empty for a plain number.
        where: of what, such as {"system": "whook server", "connections": 64, "bytes": 1024}. With the name it
            is the figure's identity, by which two runs are compared.
        rounds: one value for each round, in the order in which they were taken.
        better: which direction is an improvement.
    """

    name: str
    unit: str
    where: Where
    rounds: Sequence[float]
    better: Better = "lower"

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.rounds)

    @property
    def key(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What makes it the same figure in another run."""
        return self.name, tuple(sorted((k, str(v)) for k, v in self.where.items()))

    def as_json(self) -> dict[str, Any]:
        """Give what is stored; median, low and high are there for people and other programs."""
        return {
            "name": self.name,
            "unit": self.unit,
            "better": self.better,
            "where": self.where,
            "median": self.median,
            "low": min(self.rounds),
            "high": max(self.rounds),
            "rounds": list(self.rounds),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Read what `as_json` has given."""
        return cls(stored["name"], stored["unit"], stored["where"], stored["rounds"], stored["better"])


@dataclass(frozen=True, slots=True)
class Series:
    """Points of a curve, such as resident memory over time.

    Attributes:
        name: what the curve shows, such as "resident memory"; curves of one name share a plot.
        x: what the first coordinate is, with its unit: "s", "ms".
        unit: of the second coordinate.
        where: of what, as in a figure: {"process": "relay"}.
        points: pairs, the first coordinate rising.
    """

    name: str
    x: str
    unit: str
    where: Where
    points: list[tuple[float, float]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Give what is stored."""
        return {"name": self.name, "x": self.x, "unit": self.unit, "where": self.where, "points": self.points}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Read what `as_json` has given."""
        points = [(float(x), float(y)) for x, y in stored["points"]]
        return cls(stored["name"], stored["x"], stored["unit"], stored["where"], points)


def distribution(name: str, latencies_ms: Sequence[float], where: Where, points: int = 200) -> Series:
    """Give latencies as a curve: for shares of the requests, the time within which they were answered.

    The shares grow denser towards 1, where the tail is.
    """
    ordered = sorted(latencies_ms)
    if not ordered:
        return Series(name, "share answered", "ms", where)
    shares = [1 - 10 ** (-4 * n / points) for n in range(points)]
    found = [(share, ordered[min(len(ordered) - 1, int(share * len(ordered)))]) for share in shares]
    return Series(name, "share answered", "ms", where, [*found, (1.0, ordered[-1])])
