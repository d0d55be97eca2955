"""House rules that no linter knows: what CI runs is what the README says, and no file grows out of hand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SOURCES = [path for part in ("src", "tests", "bench", "tools") for path in (ROOT / part).rglob("*.py")]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    (command,) = re.findall(r'step "tests"\n\(\n(.+)\n\)', script)
    assert command in (ROOT / "README.md").read_text("utf-8").splitlines()


def test_no_file_above_four_hundred_lines() -> None:
    long = {
        str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text("utf-8").splitlines())) > 400
    }
    assert not long


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(p.relative_to(ROOT)) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text("utf-8")))
    ]
    assert not silent


def test_constraints_pin_exactly_and_name_no_place() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin)] == []
