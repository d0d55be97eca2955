"""A cluster in which something is killed every few seconds: what was answered with 2xx reaches its server.

The short form runs with `nox -s cluster`. The full one: WHOOK_TEST_CHAOS_SECONDS=60,
WHOOK_TEST_CHAOS_RATE=300 (a second), WHOOK_TEST_CHAOS_TUNNELS=20, WHOOK_TEST_CHAOS_PAUSE=5 (seconds between
two kills).
WHOOK_TEST_SEED repeats the choice of victims, which the test prints.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.arrivals import Arrivals, Told, check_arrivals
from tests.support.cluster import START, Cluster, Member, running_cluster
from tests.support.deadlines import DEADLINE
from tests.support.load import is_ready
from tests.support.whook_process import WhookProcess

SECONDS = float(os.environ.get("WHOOK_TEST_CHAOS_SECONDS", "12"))
RATE = float(os.environ.get("WHOOK_TEST_CHAOS_RATE", "40"))
TUNNELS = int(os.environ.get("WHOOK_TEST_CHAOS_TUNNELS", "4"))
PAUSE = float(os.environ.get("WHOOK_TEST_CHAOS_PAUSE", "3"))
SEED = int(os.environ.get("WHOOK_TEST_SEED", "0")) or random.SystemRandom().randrange(2**32)
AWAY = 1.0
"""Seconds for which a victim stays dead."""
SENDERS = 32
RECOVERY = 4 * DEADLINE

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not os.environ.get("WHOOK_TEST_CLUSTER"),
        reason="needs a machine with nothing else to do: nox -s cluster",
    ),
]


class Clients:
    """The clients, each started again when it has ended."""

    def __init__(self, cluster: Cluster, folder: Path, forward: str, stack: ExitStack) -> None:
        self._cluster = cluster
        self._folder = folder
        self._forward = forward
        self._stack = stack
        self.running: dict[str, WhookProcess] = {}

    def start(self, project: str, conductor: int) -> None:
        """Start the client of a project."""
        server = ("--server", self._cluster.api(conductor))
        command = ("connect", project, "--json", *server, "--forward", self._forward)
        env = {"WHOOK_TOKEN": self._cluster.token}
        process = WhookProcess(*command, home=self._folder / project, env=env)
        self.running[project] = self._stack.enter_context(process)

    def revive(self) -> None:
        """Start again what has ended."""
        for number, (project, process) in enumerate(list(self.running.items())):
            if process.returncode is not None:
                self.start(project, number % 2)


class Shower:
    """Unique webhooks at a steady rate over both conductors; nothing is ever sent twice."""

    def __init__(self, cluster: Cluster, projects: list[str]) -> None:
        self._ports = cluster.ingress
        self._projects = projects
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._next = 0
        self.told: list[Told] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(SENDERS)]

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[Told]:
        """End, once every answer is there."""
        self._stop.set()
        for thread in self._threads:
            thread.join(4 * DEADLINE)
            assert not thread.is_alive(), "a sender hangs"
        return self.told

    def _run(self) -> None:
        while True:
            with self._lock:
                number, self._next = self._next, self._next + 1
            due = self._began + number / RATE
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            project = self._projects[number % len(self._projects)]
            told = self._send(project, f"/{project}/{number}", number)
            with self._lock:
                self.told.append(told)

    def _send(self, project: str, path: str, number: int) -> Told:
        began = time.monotonic()
        body = json.dumps({"id": path, "pad": "x" * (number % 500)}).encode()
        turn = number % len(self._ports)
        for port in self._ports[turn:] + self._ports[:turn]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3 * DEADLINE)
            try:
                connection.connect()
            except OSError:
                continue  # a load balancer tries the next one
            try:
                headers = {"Host": f"{project}.localhost:{port}", "X-Mark": path, "Connection": "close"}
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                said = answer.read()
                event = answer.getheader("Whook-Event-Id") or ""
                problem = "" if answer.status < 300 else str(json.loads(said)["type"]).rpartition(":")[2]
                ended = time.monotonic()
                return Told(project, path, body, path, answer.status, began, ended, event, problem)
            except (OSError, http.client.HTTPException):
                break
            finally:
                connection.close()
        return Told(project, path, body, path, 0, began, time.monotonic(), problem="broken")


def torment(cluster: Cluster, clients: Clients, chance: random.Random) -> Counter[str]:
    """Kill something every few seconds and start it again; return what was killed how often."""
    killed: Counter[str] = Counter()
    ends = time.monotonic() + SECONDS
    wait = threading.Event().wait
    while time.monotonic() < ends:
        begun = time.monotonic()
        kind = chance.choice(["relay", "conductor", "client", "redis", "postgres"])
        killed[kind] += 1
        if kind == "redis":
            cluster.redis.kill()
            wait(AWAY)
            cluster.redis.start()
        elif kind == "postgres":
            cluster.postgres.kill()
            wait(AWAY)
            cluster.postgres.start()
        elif kind == "client":
            project = chance.choice(sorted(clients.running))
            clients.running[project].kill()
            wait(AWAY)
        else:
            member = chance.choice(cluster.relays if kind == "relay" else cluster.conductors)
            member.kill()
            wait(AWAY)
            member.start()
        clients.revive()
        revive(cluster.members)
        wait(max(0.0, begun + PAUSE - time.monotonic()))
    return killed


def revive(members: list[Member]) -> None:
    """Start again the daemons that have ended by themselves, as a supervisor would."""
    for member in members:
        if member.process is not None and member.process.returncode is not None:
            member.kill()
            member.start()


def recover(cluster: Cluster, clients: Clients) -> None:
    """Wait until everything runs again."""
    ends = time.monotonic() + RECOVERY
    while not all(member.process and is_ready(member.admin) for member in cluster.members):
        assert time.monotonic() < ends, "the cluster does not recover"
        revive(cluster.members)
        clients.revive()
        threading.Event().wait(0.2)


def test_what_was_answered_reaches_its_server(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    with ExitStack() as stack:
        cluster = stack.enter_context(running_cluster(tmp_path, durable=True))
        arrivals = stack.enter_context(Arrivals())
        clients = Clients(cluster, tmp_path, arrivals.url, stack)
        projects = [f"shop{number}" for number in range(TUNNELS)]
        for number, project in enumerate(projects):
            clients.start(project, number % 2)
        for process in list(clients.running.values()):
            process.wait_event("ready", seconds=START)
        shower = Shower(cluster, projects)
        shower.start()
        killed = torment(cluster, clients, chance)
        told = shower.stop()
        recover(cluster, clients)
        clients.revive()
        acknowledged = {one.path for one in told if 200 <= one.status < 300}
        deadline = time.monotonic() + RECOVERY
        while True:
            try:
                arrivals.wait_paths(acknowledged, 5.0)
            except TimeoutError:
                if time.monotonic() > deadline:
                    break
                clients.revive()
            else:
                break
        try:
            counts = check_arrivals(told, list(arrivals.all))
        except AssertionError as error:
            error.add_note(cluster.story())
            raise
    problems = Counter(one.problem for one in told if one.problem)
    print(f"killed {dict(killed)}; {counts}; refused or broken by reason {dict(problems)}")
    assert counts["acknowledged"] > counts["sent"] / 2
