"""A whole cluster of real processes: auth, conductors and relays on a real Redis and a real PostgreSQL.

With HAProxy in front where it is installed. Every process keeps its ports over restarts. All are reaped at
the end; what they said goes into the report of a failed test, and whole into files in the test's folder.
"""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.activation import holding
from tests.support.certificates import self_signed
from tests.support.deadlines import DEADLINE
from tests.support.haproxy import Haproxy, find_haproxy, render, running_haproxy
from tests.support.load import Front
from tests.support.postgres import Postgres, running_postgres
from tests.support.redis_server import RedisServer
from tests.support.whook_process import Launcher, WhookProcess, clean_environment

START = 2 * DEADLINE
TOKEN = "admin token"
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def free_ports(count: int) -> list[int]:
    """Give ports that nobody uses now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [found.getsockname()[1] for found in sockets]


@dataclass
class Member:
    """One daemon: how it is started, and its process while it runs."""

    service: str
    name: str
    home: Path
    env: dict[str, str]
    ports: tuple[int, ...]
    admin: int
    launcher: Launcher | None = None
    process: WhookProcess | None = None
    past: list[WhookProcess] = field(default_factory=list)

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        module = f"whook_{self.service}.main"
        self.process = WhookProcess(home=self.home, env=self.env, module=module, launcher=self.launcher)

    def wait_ready(self) -> None:
        """Wait until it serves."""
        assert self.process is not None
        self.process.wait_log('"started"', seconds=START)

    def terminate(self) -> int:
        """Send SIGTERM and wait until it has drained; gives the exit status."""
        process = self._let_go()
        return process.stop(START)

    def kill(self) -> None:
        """SIGKILL it."""
        self._let_go().kill()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send(number)

    def wait_end(self) -> int:
        """Wait until it has ended, as it was told to by a signal; gives the exit status."""
        return self._let_go().wait(START)

    def _let_go(self) -> WhookProcess:
        assert self.process is not None, f"{self.name} does not run"
        process, self.process = self.process, None
        self.past.append(process)
        return process

    def story(self) -> str:
        """What all its processes said."""
        found = [*self.past, *([self.process] if self.process else [])]
        return "\n".join([f"--- {self.name}", *(process.story() for process in found)])


@dataclass
class Cluster:
    """What runs, and where to reach it."""

    redis: RedisServer
    postgres: Postgres
    auth: Member
    conductors: list[Member]
    relays: list[Member]
    haproxy: Haproxy | None = None
    """In front of the conductors, where it is installed."""
    token: str = ""
    """May do everything."""

    @property
    def members(self) -> list[Member]:
        """All daemons."""
        return [self.auth, *self.conductors, *self.relays]

    @property
    def ingress(self) -> list[int]:
        """Ports of the conductors for senders."""
        return [conductor.ports[0] for conductor in self.conductors]

    def front(self) -> Front:
        """Where senders go: HAProxy, or the conductors themselves."""
        if self.haproxy is not None:
            return Front([self.haproxy.port])
        return Front(self.ingress, [conductor.admin for conductor in self.conductors])

    def api(self, conductor: int = 0) -> str:
        """URL of the API: of HAProxy, or of one conductor where there is none."""
        if self.haproxy is not None:
            return f"http://127.0.0.1:{self.haproxy.port}"
        return f"http://127.0.0.1:{self.conductors[conductor].ports[1]}"

    def story(self) -> str:
        """What all processes said."""
        front = [self.haproxy.story()] if self.haproxy is not None else []
        return "\n".join([*front, *(member.story() for member in self.members)])

    def write_logs(self, folder: Path) -> None:
        """Write all that they said into files."""
        for member in self.members:
            found = [*member.past, *([member.process] if member.process else [])]
            lines = [line for process in found for line in process.errors]
            (folder / f"{member.name}.log").write_text("\n".join(lines), "utf-8")
        if self.haproxy is not None:
            (folder / "haproxy.log").write_text("\n".join(self.haproxy.log), "utf-8")


def _members(folder: Path, common: dict[str, str], conductors: int, relays: int) -> list[Member]:
    auth_port, auth_admin, *ports = free_ports(2 + 3 * conductors + 3 * relays)
    common["WHOOK_BACKPLANE_AUTH_URL"] = f"http://127.0.0.1:{auth_port}"
    auth = {"WHOOK_AUTH_LISTEN": f"127.0.0.1:{auth_port}"}
    found = [Member("auth", "auth", folder / "auth", common | auth, (auth_port,), auth_admin)]
    for n in range(conductors):
        ingress, api = ports.pop(), ports.pop()
        env = {
            "WHOOK_CONDUCTOR_LISTEN": f"127.0.0.1:{ingress}",
            "WHOOK_CONDUCTOR_API": f"127.0.0.1:{api}",
            "WHOOK_CONDUCTOR_BASE_DOMAIN": "localhost",
            "WHOOK_CONDUCTOR_TRUSTED_PROXIES": '["127.0.0.1/32"]',
            "WHOOK_CONDUCTOR_MAX_CONNECTIONS_PER_ADDRESS": "0",
        }
        name = f"conductor-{n + 1}"
        found.append(Member("conductor", name, folder / name, common | env, (ingress, api), ports.pop()))
    for n in range(relays):
        tunnels, trunks = ports.pop(), ports.pop()
        name = f"relay-{n + 1}"
        env = {
            "WHOOK_RELAY_RELAY_ID": name,
            "WHOOK_RELAY_LISTEN": f"127.0.0.1:{tunnels}",
            "WHOOK_RELAY_TRUNK_LISTEN": f"127.0.0.1:{trunks}",
        }
        found.append(Member("relay", name, folder / name, common | env, (tunnels, trunks), ports.pop()))
    for member in found:
        member.env["WHOOK_DAEMON_ADMIN"] = f"127.0.0.1:{member.admin}"
    return found


def _migrate(env: dict[str, str], home: Path) -> None:
    """Make the tables of both databases, at the same time."""
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", f"whook_{service}.main", "migrate"],
            env=clean_environment(home) | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for service in ("auth", "conductor")
    ]
    for program in programs:
        with program:
            said, _ = program.communicate(timeout=START)
        assert program.returncode == 0, said


@contextmanager
def running_cluster(
    folder: Path,
    *,
    conductors: int = 2,
    relays: int = 3,
    settings: dict[str, str] | None = None,
    durable: bool = False,
    balanced: bool = True,
    activated: bool = False,
    prepare: Callable[[Member], None] | None = None,
) -> Iterator[Cluster]:
    """Run a cluster until the block ends; given once all is ready. ``settings`` are WHOOK_… variables.

    A ``balanced`` one has HAProxy in front where it is installed, and the two conductors that it names.
    In an ``activated`` one a supervisor holds the listeners of each conductor and of auth.
    ``prepare`` may change a daemon's variables before it is started.
    Only a ``durable`` one can store webhooks: the Redis of the others forgets everything when it is killed.
    """
    with ExitStack() as stack:
        redis_folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="whook-redis-")))
        redis = RedisServer(redis_folder, *(DURABLE if durable else ()))
        stack.callback(redis.kill)
        redis.start()
        postgres = stack.enter_context(running_postgres())
        key = secrets.token_urlsafe(32)
        common = {
            "WHOOK_BACKPLANE_URL": redis.url,
            "WHOOK_BACKPLANE_CONDUCTOR_DATABASE": postgres.database("conductor"),
            "WHOOK_BACKPLANE_AUTH_DATABASE": postgres.database("auth"),
            "WHOOK_BACKPLANE_SERVICE_KEY": secrets.token_urlsafe(32),
            "WHOOK_CONDUCTOR_CLUSTER_KEY": key,
            "WHOOK_RELAY_CLUSTER_KEY": key,
            "WHOOK_CONDUCTOR_DRAIN_DELAY": "3",
            "WHOOK_DAEMON_LOG_FORMAT": "json",
            "WHOOK_DAEMON_DRAIN_SECONDS": "12",
            **(settings or {}),
        }
        auth, *others = _members(folder, common, conductors, relays)
        if activated:
            stack.enter_context(activate(auth, "WHOOK_AUTH_LISTEN"))
            for member in others:
                if member.service == "conductor":
                    stack.enter_context(activate(member, "WHOOK_CONDUCTOR_LISTEN", "WHOOK_CONDUCTOR_API"))
            for member in (auth, *others):
                member.env["WHOOK_BACKPLANE_AUTH_URL"] = f"http://127.0.0.1:{auth.ports[0]}"
        for member in (auth, *others):
            if prepare is not None:
                prepare(member)
            member.home.mkdir(parents=True, exist_ok=True)
        _migrate(auth.env, auth.home)
        cluster = Cluster(
            redis,
            postgres,
            auth,
            [member for member in others if member.service == "conductor"],
            [member for member in others if member.service == "relay"],
        )
        stack.callback(cluster.write_logs, folder)
        stack.callback(_reap, cluster)
        try:
            for member in cluster.members:
                member.start()
            assert auth.process is not None
            cluster.token = auth.process.wait_line(TOKEN, seconds=START).split()[0]
            for member in cluster.members:
                member.wait_ready()
            if balanced:
                cluster.haproxy = _enter_haproxy(stack, folder, cluster)
            yield cluster
        except BaseException as error:
            error.add_note(cluster.story())
            raise


@contextmanager
def activate(member: Member, *variables: str) -> Iterator[None]:
    """Hold the sockets for these settings of a daemon and its admin port; pass them on when it starts."""
    variables += ("WHOOK_DAEMON_ADMIN",)
    names = [variable.lower() for variable in variables]
    with holding(*names) as (ports, launcher):
        for variable, name in zip(variables, names, strict=True):
            member.env[variable] = f"systemd:{name}"
        member.launcher = launcher
        *served, member.admin = ports
        member.ports = tuple(served)
        yield


def _reap(cluster: Cluster) -> None:
    for member in cluster.members:
        for process in [*member.past, *([member.process] if member.process else [])]:
            process.kill()


def _enter_haproxy(stack: ExitStack, folder: Path, cluster: Cluster) -> Haproxy | None:
    if find_haproxy() is None:
        return None
    port, tls_port = free_ports(2)
    ingress = {member.name: (member.ports[0], member.admin) for member in cluster.conductors}
    api = {member.name: (member.ports[1], member.admin) for member in cluster.conductors}
    auth = {"auth-1": (cluster.auth.ports[0], cluster.auth.admin)}
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        render(
            port=port,
            tls_port=tls_port,
            certificate=self_signed(folder),
            backends={
                "conductors": ingress,
                "conductors_unchecked": ingress,
                "api": api,
                "api_unchecked": api,
                "auth": auth,
            },
            domain="localhost",
        ),
        "utf-8",
    )
    return stack.enter_context(running_haproxy(configuration, port=port, tls_port=tls_port))
