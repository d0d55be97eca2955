"""Guides that take longer are true as well: what they say to type runs. See tests/system/test_guides.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.system.test_guides import SLOW, follow


@pytest.mark.slow_deploy
@pytest.mark.parametrize("name", SLOW)
def test_what_it_says_runs(name: str, tmp_path: Path) -> None:
    if name.endswith("backup.md") and shutil.which("sqlite3") is None:
        pytest.skip("sqlite3 is not installed")
    follow(name, tmp_path)
