"""Results as JSON for machines and as a Markdown table for people, in bench/results/.

The JSON of every scenario has the same shape (`Stored`): what it depends on (`machine`: versions, commit,
load), `figures` with their rounds and units, named `series`, the in-run `references` that the
figures are to be held against, and in `results` whatever else the scenario tells. `bench.compare` and
`bench.plots` read nothing but that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from bench.figures import Figure, Series
from bench.machine import describe

RESULTS = Path(__file__).parent / "results"
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """A result file, read again."""

    scenario: str
    machine: dict[str, Any]
    figures: list[Figure]
    series: list[Series]
    references: list[Figure]
    results: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a result file. Raises ValueError for one that is none, or is of another format."""
        try:
            content = json.loads(path.read_text("utf-8"))
            if content.get("format") != FORMAT:
                raise ValueError(f"{path}: its format is {content.get('format')}, this reads {FORMAT}")
            return cls(
                content["scenario"],
                content["machine"],
                [Figure.from_json(f) for f in content["figures"]],
                [Series.from_json(s) for s in content["series"]],
                [Figure.from_json(f) for f in content["references"]],
                content["results"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no result of a measurement: {error!r}") from error


def markdown(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Give a Markdown table; text to the left, numbers to the right, columns of even width."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(headings), *cells]) for i in range(len(headings))]
    right = [bool(rows) and isinstance(rows[0][i], int | float) for i in range(len(headings))]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * (w - 1) + ":") if r else "-" * w for w, r in zip(widths, right, strict=True)]
    return "\n".join([line(headings), line(rule), *map(line, cells)])


def save(
    name: str,
    results: Sequence[dict[str, object]],
    table: str,
    *,
    figures: Sequence[Figure] = (),
    series: Sequence[Series] = (),
    references: Sequence[Figure] = (),
    scenario: str = "",
) -> Path:
    """Write both files, and the plots that the scenario has; give the path of the Markdown one.

    `name` is for the files; `scenario` is what the plots go by, the same unless told otherwise. Without
    matplotlib there are no plots, and that is said.
    """
    from bench import plots

    RESULTS.mkdir(exist_ok=True)
    machine = describe()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = RESULTS / f"{stamp}-{name}"
    content = {
        "format": FORMAT,
        "scenario": scenario or name,
        "machine": machine,
        "figures": [figure.as_json() for figure in figures],
        "series": [one.as_json() for one in series],
        "references": [figure.as_json() for figure in references],
        "results": list(results),
    }
    written = path.with_suffix(".json")
    written.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    about = "\n".join(f"- {key}: {value}" for key, value in machine.items())
    path.with_suffix(".md").write_text(f"# {name}\n\n{about}\n\n{table}\n", "utf-8")
    if figures or series:
        plots.say(plots.draw(written))
    return path.with_suffix(".md")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
