"""A bounded smoke of the scenarios about scale: that they run and lose nothing. It says nothing about times.

Each starts whole clusters, so they run by `nox -s bench_smoke`, or with WHOOK_TEST_CLUSTER=1. A small storm
is part of every run: tests/system/test_storm.py.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench import fan, report, tunnels

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        not os.environ.get("WHOOK_TEST_CLUSTER"), reason="starts clusters: nox -s bench_smoke"
    ),
]


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    return tmp_path


def stored(folder: Path) -> dict[str, Any]:
    [path] = folder.glob("*.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_tunnels(results: Path) -> None:
    plan = tunnels.Plan(
        sizes=(30, 60), whole=90, idle=0.5, seconds=0.3, rounds=1, connections=(4,), rate=50.0
    )
    text = tunnels.run(plan)
    found = stored(results)
    assert [result["tunnels"] for result in found["results"]] == [30, 60, 90]
    assert found["results"][-1]["answered"] == 90
    assert {figure["name"] for figure in found["figures"]} >= {"memory of a tunnel", "relay at rest", "p99"}
    assert "| tunnels |" in text


def test_fan(results: Path) -> None:
    fan.run(fan.Plan(tunnels=40, rates=(100.0,), seconds=1.0, rounds=1))
    [sent] = stored(results)["results"]
    assert sent["requests"] == 100  # each that was due
