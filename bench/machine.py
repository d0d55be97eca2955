"""What a result depends on: the machine, the versions of everything that takes part, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PARTS = ("whook", "trio", "trio-websocket", "httptools", "hypercorn", "msgspec", "wsproto", "h11")
ROOT = Path(__file__).parent.parent


def describe() -> dict[str, object]:
    """Describe this machine and this checkout, for the head of a result file.

    `load` is the machine's load over the last 1, 5 and 15 minutes, the run's own included.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "versions": {name: version(name) for name in PARTS},
    }


def _git(*args: str) -> str:
    run = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else ""


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
