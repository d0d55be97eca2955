"""The dashboards that are shipped for Grafana, and the queries in them as Prometheus is asked them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.prometheus import RATE

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))

_VARIABLE = re.compile(r"\$\{?(\w+)")
_NAMES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel, with Grafana's variables replaced."""

    dashboard: str
    panel: str
    expr: str


def load(path: Path) -> dict[str, Any]:
    """Read a dashboard."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the panels that show something: all but rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def variables(text: str) -> set[str]:
    """Give the names of Grafana's variables in a query."""
    return set(_VARIABLE.findall(text))


def queries(path: Path) -> Iterator[Query]:
    """Give all queries of a dashboard: those of its panels, and those of its variables."""
    dashboard = load(path)
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = _NAMES.fullmatch(variable["query"]["query"])
            assert found is not None, variable
            yield Query(path.stem, f"variable {variable['name']}", f"count by ({found[2]}) ({found[1]})")
    for panel in panels(dashboard):
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", RATE).replace("$instance", ".*")
            yield Query(path.stem, panel["title"], expr)


def metrics(expr: str) -> set[str]:
    """Give the names of whook's metrics in a query, as the reference lists them."""
    found = re.findall(r"(?<![\w:])whook_\w+", expr)
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}
