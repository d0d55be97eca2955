"""A real Bugsink, the self-hosted error tracker, on a free port with databases of its own.

It is looked for where WHOOK_BUGSINK says (the folder of a virtual environment with Bugsink in it), then on
the path. It is no dependency of whook's tests: its requirements are its own, so it has an environment apart.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import free_ports
from tests.support.deadlines import DEADLINE
from tests.support.polling import wait_until

_MAKE_PROJECT = """
from projects.models import Project
project = Project.objects.create(name="whook")
print(f"project={project.pk} key={project.sentry_key.hex}")
"""


def find_bugsink() -> Path | None:
    """Return the folder of Bugsink's programs, None where it is not installed."""
    named = os.environ.get("WHOOK_BUGSINK")
    if named and (Path(named) / "bin" / "bugsink-manage").exists():
        return Path(named) / "bin"
    found = shutil.which("bugsink-manage")
    return Path(found).parent if found else None


@dataclass(frozen=True)
class Bugsink:
    """A running Bugsink with one project."""

    dsn: str
    url: str
    database: Path

    def events(self) -> list[dict[str, Any]]:
        """The events that it has taken in and digested, as it keeps them."""
        with closing(
            sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=DEADLINE)
        ) as database:
            rows = database.execute("select data from events_event order by ingested_at").fetchall()
        return [json.loads(row[0]) for row in rows]

    def wait_event(self, **tags: str) -> dict[str, Any]:
        """Wait for an event with these tags."""

        def look() -> dict[str, Any] | None:
            return next((e for e in self.events() if tags.items() <= e.get("tags", {}).items()), None)

        return wait_until(look, f"an event with {tags} in Bugsink")


@contextmanager
def running_bugsink(folder: Path) -> Iterator[Bugsink]:
    """Run it until the block ends; skips the test where it is not installed."""
    programs = find_bugsink()
    if programs is None:
        pytest.skip("Bugsink is not installed: WHOOK_BUGSINK names a virtual environment that has it")
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WHOOK_"))},
        "PYTHONPATH": str(folder),
        "DJANGO_SETTINGS_MODULE": "bugsink_conf",
        "PYTHONUNBUFFERED": "1",
    }

    def run(program: str, *arguments: str) -> str:
        done = subprocess.run(
            [programs / program, *arguments],
            cwd=folder, env=env, capture_output=True, text=True, timeout=4 * DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("bugsink-create-conf", "--template=local", f"--port={port}", "--host=127.0.0.1")
    with (folder / "bugsink_conf.py").open("a", encoding="utf-8") as settings:
        settings.write(f"\nDATABASES['default']['NAME'] = {str(folder / 'db.sqlite3')!r}\n")
        settings.write(f"DATABASES['snappea']['NAME'] = {str(folder / 'snappea.sqlite3')!r}\n")
        settings.write("ALLOWED_HOSTS = ['127.0.0.1', 'localhost']\n")
    run("bugsink-manage", "migrate")
    run("bugsink-manage", "migrate", "--database=snappea", "snappea")
    made = next(
        line for line in run("bugsink-manage", "shell", "-c", _MAKE_PROJECT).splitlines() if "key=" in line
    )
    project, key = (part.partition("=")[2] for part in made.split())
    with (folder / "gunicorn.log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "gunicorn", f"--bind=127.0.0.1:{port}", "--threads=4", "bugsink.wsgi"],
            cwd=folder, env=env, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _answers(url), "Bugsink to answer", 2 * DEADLINE)
            yield Bugsink(f"http://{key}@127.0.0.1:{port}/{project}", url, folder / "db.sqlite3")
        except BaseException as error:
            error.add_note((folder / "gunicorn.log").read_text("utf-8", "replace")[-4_000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(DEADLINE)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # it answers, whatever it thinks of the path
    except OSError:
        return False
