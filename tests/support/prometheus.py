"""Prometheus from Debian with the configuration that is shipped, scraping what a test runs.

Only addresses and durations are changed (everything happens each second, and alerts wait for one second), so
what is tested is what operators get. Where it is not installed `find_prometheus` gives None.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode

from tests.support.deadlines import DEADLINE

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
POLL = 0.2
"""Seconds between two questions to it: it tells nobody by itself."""
RATE = "15s"
"""What `$__rate_interval` becomes: long enough for several scrapes on a busy machine."""

Targets = Mapping[str, Sequence[int]]
"""Admin ports by the name of their job."""


def find_program(name: str) -> str | None:
    """Return the path of a program of Prometheus, if it is installed."""
    return shutil.which(name)


def run_tool(*command: str, stdin: bytes = b"") -> str:
    """Run promtool or amtool; give what it complains about, empty when all is well."""
    done = subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=DEADLINE)
    said = (done.stdout + done.stderr).decode()
    return "" if done.returncode == 0 else f"{' '.join(command)}: {done.returncode}\n{said}"


def scrape(port: int) -> bytes:
    """Read the metrics at an admin port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE) as answer:
        found: bytes = answer.read()
    return found


def render(folder: Path, *, port: int, targets: Targets) -> Path:
    """Write the shipped configuration for these targets into a folder; give its path."""
    (folder / "targets").mkdir(parents=True)
    shutil.copytree(SHIPPED / "rules", folder / "rules")
    rules = folder / "rules" / "alerts.yml"
    rules.write_text(re.sub(r"\bfor: \w+", "for: 1s", rules.read_text("utf-8")), "utf-8")
    text = (SHIPPED / "prometheus.yml").read_text("utf-8")
    for pattern, new in {
        r"(scrape_interval|scrape_timeout|evaluation_interval): \w+": r"\1: 1s",
        r'"127\.0\.0\.1:9090"': f'"127.0.0.1:{port}"',
        r'targets: \["127\.0\.0\.1:9093"\]': "targets: []",
    }.items():
        text, count = re.subn(pattern, new, text)
        assert count, f"{pattern} is not in {SHIPPED / 'prometheus.yml'}"
    for job, ports in targets.items():
        assert f"job_name: {job} " in text or f"job_name: {job}\n" in text, f"no job {job}"
        found = [{"targets": [f"127.0.0.1:{each}" for each in ports]}]
        (folder / "targets" / f"{job}.yml").write_text(json.dumps(found), "utf-8")
    configuration = folder / "prometheus.yml"
    configuration.write_text(text, "utf-8")
    return configuration


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as Prometheus tells it now."""

    name: str
    state: str
    labels: dict[str, str]


class Prometheus:
    """A running Prometheus."""

    def __init__(self, program: str, configuration: Path, port: int) -> None:
        self.port = port
        self.began = time.time()
        self._log: list[str] = []
        self._process = subprocess.Popen(
            [
                program,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={configuration.parent / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            for line in pipe:
                self._log.append(line.rstrip("\n"))

    def ask(self, path: str, **parameters: str) -> Any:
        """Ask its HTTP API; give the data."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        data = urlencode(parameters).encode() if parameters else None
        with urllib.request.urlopen(url, data, timeout=DEADLINE) as answer:
            return json.load(answer)["data"]

    def value(self, query: str) -> float:
        """Evaluate a query that has one number now; NaN while it has none."""
        found = self.ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else math.nan

    def history(self, query: str) -> list[float]:
        """Evaluate a query for each second since it began; give all numbers but NaN."""
        asked = {"start": f"{self.began:.3f}", "end": f"{time.time():.3f}", "step": "1s"}
        found = self.ask("query_range", query=query, **asked)["result"]
        values = [float(value) for series in found for _, value in series["values"]]
        return [value for value in values if not math.isnan(value)]

    def alerts(self) -> list[Alert]:
        """Give the alerts that are pending or firing."""
        found = self.ask("alerts")["alerts"]
        return [Alert(one["labels"]["alertname"], one["state"], one["labels"]) for one in found]

    def wait_value(self, query: str, *, seconds: float = DEADLINE) -> None:
        """Wait until a query gives something that is not 0."""
        ends = time.monotonic() + seconds
        while not self.value(query) > 0:
            assert time.monotonic() < ends, f"{query} stays {self.value(query)}\n{self.story()}"
            time.sleep(POLL)

    def wait_alert(self, name: str, *, firing: bool = True, seconds: float = DEADLINE, **labels: str) -> None:
        """Wait until an alert with these labels fires, or until it does no longer."""
        ends = time.monotonic() + seconds
        while firing is not any(
            one.name == name and one.state == "firing" and labels.items() <= one.labels.items()
            for one in self.alerts()
        ):
            assert time.monotonic() < ends, f"{name} {labels}, firing={firing}: {self.alerts()}"
            time.sleep(POLL)

    def wait_ready(self) -> None:
        """Wait until it answers."""
        ends = time.monotonic() + DEADLINE
        while True:
            assert self._process.poll() is None, self.story()
            try:
                self.ask("status/buildinfo")
            except URLError:
                assert time.monotonic() < ends, self.story()
                time.sleep(POLL)
            else:
                return

    def story(self) -> str:
        """The end of its log."""
        return "\n".join(["--- prometheus", *self._log[-40:]])

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)


@contextmanager
def running_prometheus(folder: Path, *, port: int, targets: Targets) -> Iterator[Prometheus]:
    """Run Prometheus until the block ends; given once it has read every target."""
    program = find_program("prometheus")
    assert program is not None
    prometheus = Prometheus(program, render(folder, port=port, targets=targets), port)
    try:
        prometheus.wait_ready()
        count = sum(map(len, targets.values()))
        prometheus.wait_value(f'sum(up{{job=~"whook.*"}}) == {count}')
        yield prometheus
    finally:
        prometheus.stop()
