"""A cluster in use: hundreds of tunnels to one local server, and what its tests ask of all of them.

`nox -s cluster` sets WHOOK_TEST_CLUSTER=1, which makes everything full length and size: 200 tunnels, 200
requests a second for 30 s, outages of 20 s, 500 races. Without it the same tests run scaled down.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.error import HTTPError

from tests.support.cluster import START, Cluster, Member, running_cluster
from tests.support.counting import Counting
from tests.support.crowd import Crowd
from tests.support.deadlines import DEADLINE
from tests.support.load import Load, send, steady_load
from tests.support.whook_process import WhookProcess

FULL = bool(os.environ.get("WHOOK_TEST_CLUSTER"))
CLIENTS = 4
"""Real `whook connect` processes beside the crowd."""


def _size(name: str, full: float, short: float) -> float:
    return float(os.environ.get(f"WHOOK_TEST_CLUSTER_{name}", full if FULL else short))


TUNNELS = int(_size("TUNNELS", 200, 24))
RATE = _size("RATE", 200, 80)
"""Requests a second."""
SECONDS = _size("SECONDS", 30, 3)
"""How long the load lasts at least while everything is restarted."""
OUTAGE = _size("OUTAGE", 20, 2)
"""Seconds for which Redis, PostgreSQL or auth are gone."""
RACES = int(_size("RACES", 500, 15))


@dataclass
class Site:
    """A cluster with tunnels to a local server."""

    cluster: Cluster
    local: Counting
    crowd: Crowd
    clients: list[WhookProcess]
    folder: Path
    projects: list[str]
    first_spread: list[int] = field(default_factory=list)
    """Tunnels on each relay when all had been opened."""

    @contextmanager
    def load(self) -> Iterator[Load]:
        """Send webhooks to all projects until the block ends."""
        self.local.seen.clear()
        with steady_load(self.cluster.front(), self.projects, RATE) as load:
            yield load

    def restart(self, member: Member, load: Load) -> None:
        """Restart a daemon by SIGTERM, and wait until it is in use again."""
        haproxy = self.cluster.haproxy
        mark = len(haproxy.log) if haproxy is not None else 0
        assert member.terminate() == 0, member.story()
        self.start(member, load, mark)

    def start(self, member: Member, load: Load, mark: int) -> None:
        """Start a daemon and wait until it is in use; HAProxy's log had ``mark`` lines before it ended."""
        member.start()
        member.wait_ready()
        if member.service == "conductor":
            if self.cluster.haproxy is not None:
                self.cluster.haproxy.wait_up(member.name, after=mark)
            else:
                load.wait_ready(member.ports[0])

    def check_each_once(self, load: Load, *, but: frozenset[str] = frozenset()) -> None:
        """Check that each request reached the local server once; ``but`` are paths that need not have."""
        seen = self.local.seen
        twice = [path for path, count in seen.items() if count > 1]
        assert not twice, f"answered twice: {twice[:5]} of {len(twice)}"
        lost = {one.path for one in load.sent} - set(seen) - but
        assert not lost, f"never arrived: {sorted(lost)[:5]} of {len(lost)}"

    def wait_all(self, seconds: float = DEADLINE) -> None:
        """Wait until every project answers through every conductor."""
        ends = time.monotonic() + seconds
        for project in self.projects:
            for port in self.cluster.ingress:
                while not (found := send([port], project, "/probe")).good:
                    assert time.monotonic() < ends, f"{found}; logs in {self.folder}"

    def open_new(self, project: str) -> WhookProcess:
        """Start a `whook connect` for a project that nobody has had."""
        return _connect(self.cluster, project, self.local, self.folder)


def tunnels(relay: Member) -> int:
    """Ask a relay how many tunnels it has."""
    with urllib.request.urlopen(f"http://127.0.0.1:{relay.admin}/metrics", timeout=DEADLINE) as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("whook_tunnels ")).split()[-1]))


def checks(member: Member) -> dict[str, str]:
    """Ask a daemon what each of its readiness checks says."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{member.admin}/readyz", timeout=DEADLINE) as answer:
            body = answer.read()
    except HTTPError as error:
        body = error.read()
    found: dict[str, str] = json.loads(body)["checks"]
    return found


def wait_checks(member: Member, *, well: bool, seconds: float = DEADLINE) -> dict[str, str]:
    """Wait until all checks of a daemon are well, or until one is not."""
    ends = time.monotonic() + seconds
    while True:
        found = checks(member)
        if all(text == "ok" for text in found.values()) is well:
            return found
        assert time.monotonic() < ends, f"{member.name}: {found}"
        time.sleep(0.1)


def cpu_seconds(member: Member) -> float:
    """Return the CPU time that a daemon's process has taken."""
    assert member.process is not None
    fields = Path(f"/proc/{member.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def log_time(line: str) -> float:
    """Return when a JSON log line was written, by the monotonic clock."""
    written = datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
    return written - time.time() + time.monotonic()


def _connect(cluster: Cluster, project: str, local: Counting, folder: Path) -> WhookProcess:
    command = ("connect", project, "--json", "--server", cluster.api(), "--forward", local.url)
    return WhookProcess(*command, home=folder / project, env={"WHOOK_TOKEN": cluster.token})


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Run a cluster with all its tunnels."""
    with ExitStack() as stack:
        settings = {"WHOOK_DAEMON_DRAIN_SECONDS": "25"} if FULL else {}  # as by default
        cluster = stack.enter_context(running_cluster(folder, settings=settings))
        local = stack.enter_context(Counting())
        many = [f"shop{n}" for n in range(TUNNELS - CLIENTS)]
        real = [f"real{n}" for n in range(CLIENTS)]
        crowd = Crowd(
            many, server=cluster.api(), forward=local.url, token=cluster.token, home=folder / "crowd"
        )
        stack.enter_context(crowd)
        clients = [stack.enter_context(_connect(cluster, project, local, folder)) for project in real]
        crowd.wait_ready(START)
        for client in clients:
            client.wait_event("ready", seconds=START)
        site = Site(cluster, local, crowd, clients, folder, real + many)
        site.first_spread = [tunnels(relay) for relay in cluster.relays]
        site.wait_all(START)
        try:
            yield site
        finally:
            lines = [json.dumps(event) for event in crowd.events]
            (folder / "crowd.log").write_text("\n".join([*lines, *crowd.errors]), "utf-8")
