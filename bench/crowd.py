"""A cluster of real daemons with a crowd of tunnels: how `tunnels` and `fan` open them and send to them.

Auth, one conductor, relays, Redis and PostgreSQL run as the system tests start them. The tunnels are opened
by `bench.crowd_clients` with tokens that it signs with auth's own key, and their projects are put into the
database in one statement: the API would take minutes for what is not measured. Everything behind that is as
for any client. Knows no scenario, and judges nothing but failures: any failed tunnel or webhook is a
BenchError.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.process import BenchError, Child, cpu_of, resident_of
from bench.server import OPEN_DOOR
from tests.support.cluster import Cluster, Member, running_cluster

CLIENTS_EACH = 9_500
"""Tunnels of one client process: half of what a relay holds, and well below its descriptors."""
PREFIX = "crowd-"
OPENING = 600.0
"""Seconds after which tunnels that are not open yet will not be."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What senders saw of one measurement, and what it cost by process, in microseconds a webhook."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    cpu_us: dict[str, float]
    latencies_ms: list[float]

    @property
    def server_us(self) -> float:
        """Conductor and relays together."""
        return sum(used for name, used in self.cpu_us.items() if name.startswith(("conductor", "relay")))


class Crowd:
    """A running cluster and its tunnels: those of relay n are numbered from `n * room` on."""

    def __init__(self, cluster: Cluster, folder: Path, room: int, stack: ExitStack, label: str) -> None:
        self.cluster = cluster
        self.room = room
        self.label = label
        self._folder = folder
        self._stack = stack
        self._clients: dict[int, list[Child]] = {}
        self._key = signing_key(cluster)
        self.tunnels = [0] * len(cluster.relays)
        self.opened = 0.0
        """Tunnels opened in a second, the last time."""

    @property
    def port(self) -> int:
        """Where senders go."""
        return self.cluster.ingress[0]

    def open(self, relay: int, count: int) -> None:
        """Open tunnels on a relay until it has so many. Raises BenchError."""
        clients = self._clients.setdefault(relay, [])
        began, before = time.monotonic(), self.tunnels[relay]
        while len(clients) * CLIENTS_EACH < count:
            clients.append(self._start(relay, relay * self.room + len(clients) * CLIENTS_EACH))
        for n, child in enumerate(clients):
            child.tell(f"open {min(CLIENTS_EACH, count - n * CLIENTS_EACH)}")
        for child in clients:
            told = child.message(OPENING)
            if told["failures"]:
                raise BenchError(f"tunnels were not opened: {told['failures'][:3]}\n{self.cluster.story()}")
        self.tunnels[relay] = count
        took = time.monotonic() - began
        self.opened = (count - before) / took
        say(f"{self.label}: {count:,} tunnels on relay {relay + 1}, {self.opened:,.0f} opened a second")

    def _start(self, relay: int, first: int) -> Child:
        member = self.cluster.relays[relay]
        url = f"ws://127.0.0.1:{member.ports[0]}/v1/tunnel"
        command = ("-m", "bench.crowd_clients", url, "--relay-id", member.name, "--prefix", PREFIX)
        env = {"WHOOK_BENCH_KEY": self._key}
        child = Child(*command, "--first", str(first), name=f"clients of {member.name}", env=env)
        self._stack.enter_context(child).message()
        return child

    def send(self, *options: str, relay: int = 0, count: int = 0) -> Sent:
        """Send to random tunnels of a relay (all of them, or the first `count`). Raises BenchError."""
        file = self._folder / "latencies.json"
        command = ["-m", "bench.crowd_load", str(self.port), "--prefix", PREFIX, "--latencies", str(file)]
        command += ["--first", str(relay * self.room), "--count", str(count or self.tunnels[relay]), *options]
        with Child(*command, name="senders") as senders:
            start = senders.message()
            before = self.cpu()
            end = senders.message(OPENING)
            after = self.cpu()
        if start["failures"] or end["failed"] or not end["requests"]:
            raise BenchError(f"{end['failed']} webhooks failed: {[*start['failures'], *end['failures']][:3]}")
        used = {name: (after[name] - before[name]) / end["requests"] * 1e6 for name in before}
        latencies: list[float] = json.loads(file.read_text())
        return Sent(
            requests=end["requests"],
            seconds=end["seconds"],
            p50_ms=end["p50_ms"],
            p99_ms=end["p99_ms"],
            p999_ms=end["p999_ms"],
            max_ms=end["max_ms"],
            cpu_us=used,
            latencies_ms=latencies,
        )

    def send_to_each(self) -> tuple[int, float]:
        """Send one webhook to every tunnel; give how many were answered and how long it took.

        Raises BenchError if one failed, or if a tunnel got none: the clients count too.
        """
        before, began, answered = self._reached(), time.monotonic(), 0
        for relay, count in enumerate(self.tunnels):
            if count:
                answered += self.send("--each", relay=relay).requests
        took = time.monotonic() - began
        after = self._reached()
        if answered != sum(self.tunnels) or after["reached"] != answered:
            raise BenchError(
                f"{answered:,} answers from {after['reached']:,} of {sum(self.tunnels):,} tunnels"
            )
        if after["answered"] - before["answered"] != answered:
            raise BenchError(f"the tunnels answered {after['answered'] - before['answered']:,}")
        return answered, took

    def _reached(self) -> dict[str, int]:
        """Ask the clients. Raises BenchError if they have lost a tunnel."""
        total = {"open": 0, "answered": 0, "reached": 0}
        for child in (child for clients in self._clients.values() for child in clients):
            child.tell("stats")
            told = child.message()
            if told["failures"]:
                raise BenchError(f"tunnels were lost: {told['failures'][:3]}")
            for name in total:
                total[name] += told[name]
        if total["open"] != sum(self.tunnels):
            raise BenchError(f"{total['open']:,} of {sum(self.tunnels):,} tunnels are open")
        return total

    def check(self) -> None:
        """Raise BenchError if a tunnel has been lost."""
        self._reached()

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU of each process."""
        found = {member.name: cpu_of(pid_of(member)) for member in self.cluster.members}
        found["redis"] = cpu_of(self.cluster.redis.pid)
        found["postgres"] = cpu_of(self.cluster.postgres.pid, family=True)
        return found

    def resident(self, member: Member) -> int:
        """Bytes of a daemon's resident memory."""
        return resident_of(pid_of(member))


def pid_of(member: Member) -> int:
    """Give the process id of a daemon."""
    assert member.process is not None, f"{member.name} does not run"
    return member.process.pid


def signing_key(cluster: Cluster) -> str:
    """Give the key with which auth signs tunnel tokens."""
    found = cluster.postgres.execute(
        cluster.postgres.url("auth"), "SELECT private_pem FROM signing_keys ORDER BY signs_from DESC LIMIT 1"
    )
    return bytes(found[0][0]).decode()


def add_projects(cluster: Cluster, prefix: str, count: int) -> None:
    """Make projects of the cluster's first user, as the API would, one for each number below `count`."""
    columns = f"'{prefix}' || n, now() FROM generate_series(0, {count - 1}) n"
    postgres = cluster.postgres
    postgres.execute(
        postgres.url("conductor"),
        f"INSERT INTO projects (id, name, created_at) SELECT 'prj_{prefix}' || n, {columns}",
    )
    owner = "(SELECT id FROM users LIMIT 1)"
    postgres.execute(
        postgres.url("auth"),
        "INSERT INTO project_owners (project_id, user_id, project, claimed_at) "
        f"SELECT 'prj_{prefix}' || n, {owner}, {columns}",
    )


def say(line: str) -> None:
    """Tell whoever watches how far it is."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def running_crowd(
    label: str, *, relays: int = 1, room: int = 19_000, settings: dict[str, str] | None = None
) -> Iterator[Crowd]:
    """Run a cluster with room for so many tunnels on each relay; none is open yet."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="whook-crowd-")))
        chosen: dict[str, Any] = {**OPEN_DOOR, "WHOOK_CONDUCTOR_HISTORY": "false", **(settings or {})}
        cluster = stack.enter_context(
            running_cluster(folder, conductors=1, relays=relays, settings=chosen, balanced=False)
        )
        add_projects(cluster, PREFIX, relays * room)
        clients = stack.enter_context(ExitStack())  # end before the daemons
        yield Crowd(cluster, folder, room, clients, label)
