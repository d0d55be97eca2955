"""The units that are shipped, judged by systemd's own tools where they are installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
MOST_EXPOSED = 2.0
"""Of ten, as `systemd-analyze security` counts."""

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def analyze(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Give copies of the units whose programs exist."""
    program = shutil.which("true")
    assert program is not None
    for unit in UNITS.iterdir():
        text = re.sub(r"/opt/whook/bin/[\w-]+", program, unit.read_text("utf-8"))
        (tmp_path / unit.name).write_text(text, "utf-8")
    return tmp_path


def test_systemd_understands_the_units(installed: Path) -> None:
    units = [f"./{path.name}" for path in installed.iterdir()]
    found = analyze("verify", *units, folder=installed)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_little_harm(installed: Path, name: str) -> None:
    found = analyze("security", "--offline=true", f"./{name}", folder=installed)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", found.stdout)
    assert exposure is not None, found.stderr
    assert float(exposure[1]) <= MOST_EXPOSED
