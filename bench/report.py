"""Results as JSON for machines and as a Markdown table for people, in bench/results/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.machine import describe

RESULTS = Path(__file__).parent / "results"


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


def save(name: str, results: Sequence[dict[str, object]], table: str) -> Path:
    """Write both files; give the path of the Markdown one."""
    RESULTS.mkdir(exist_ok=True)
    machine = describe()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = RESULTS / f"{stamp}-{name}"
    content = {"scenario": name, "machine": machine, "results": results}
    path.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
    about = "\n".join(f"- {key}: {value}" for key, value in machine.items())
    path.with_suffix(".md").write_text(f"# {name}\n\n{about}\n\n{table}\n")
    return path.with_suffix(".md")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
