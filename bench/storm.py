"""Scenario `storm`: every tunnel drops at once; how long until all are back, and what others see of it.

A whole cluster of real daemons (auth, conductors, relays, Redis, PostgreSQL) as the system tests start it,
cheap clients in processes of their own (`storm_clients`) that know their relay already, and senders at a
steady rate (`storm_probe`): to tunnels that are already back, and to bystanders on a relay of their own that
nothing happens to. A scenario of `bench.suite`; `tests/system/test_storm.py` runs a small one with
`run_storm`. It ends at its deadline at the latest, whatever has not come back by then.
"""

from __future__ import annotations

import mmap
import signal
import sys
import time
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.crowd import add_projects, signing_key
from bench.process import Child, cpu_of, resident_of
from bench.report import markdown, save
from tests.support.cluster import Cluster, Member, running_cluster
from tests.support.whook_process import WhookProcess

CLIENTS_EACH = 5_000
"""Tunnels of one client process: two processes for 10,000 load both cores, and stay below its descriptors."""
PREFIX = "storm-"
SERVES = '"started"'


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. Times in seconds, rates in one second."""

    tunnels: int = 10_000
    bystanders: int = 100
    relays: int = 2
    conductors: int = 2
    how: str = "kill"
    """`kill`: SIGKILL and a new process at once; `term`: SIGTERM, and a new one when the old has ended."""
    resume: bool = True
    """False: clients that ask the API for every tunnel."""
    webhooks: float = 40.0
    opening: float = 800.0
    """How fast the tunnels are opened in the beginning."""
    deadline: float = 300.0
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """What was seen. `missing` are tunnels that were not back at the deadline."""

    seconds: float = 0.0
    missing: int = 0
    restart: float = 0.0
    """Seconds until both relays were ready again, which is part of `seconds`."""
    half: float = 0.0
    """Seconds until half of the tunnels were back."""
    cpu: dict[str, float] = field(default_factory=dict)
    """Seconds of CPU by process from the drop to the last tunnel's return, starting anew included."""
    resident_mib: dict[str, float] = field(default_factory=dict)
    clients: dict[str, int] = field(default_factory=dict)
    final: list[str] = field(default_factory=list)
    probe: dict[str, Any] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """Webhooks that were not answered with 200."""
        found: list[str] = self.probe["failures"]
        return found


class StormError(Exception):
    """The storm could not be run."""


class _Storm:
    """One storm, from the start of its clients."""

    def __init__(self, plan: Plan, cluster: Cluster, state: mmap.mmap, path: str) -> None:
        self.plan = plan
        self.cluster = cluster
        self.state = state
        self.path = path
        self.clients: list[Child] = []
        self.key = signing_key(cluster)
        self.spared = cluster.relays[plan.relays :]
        self.hit = cluster.relays[: plan.relays]

    def start_clients(self, stack: ExitStack, first: int, count: int, relays: list[Member]) -> None:
        apis = ",".join(self.cluster.api(n) for n in range(self.plan.conductors))
        command = ["-m", "bench.storm_clients", apis, "--state", self.path, "--prefix", PREFIX]
        command += ["--first", str(first), "--count", str(count), "--rate", str(self.plan.opening)]
        command += ["--resume" if self.plan.resume else "--no-resume"]
        urls = [f"{relay.name}=ws://127.0.0.1:{relay.ports[0]}/v1/tunnel" for relay in relays]
        command += ["--relays", ",".join(urls)]
        env = {"WHOOK_TOKEN": self.cluster.token, "WHOOK_BENCH_KEY": self.key}
        child = Child(*command, name="clients", env=env)
        self.clients.append(stack.enter_context(child))
        child.message()

    def up(self, generation: int, first: int, count: int) -> int:
        """Tunnels of a range that were opened in a generation."""
        return self.state[first : first + count].count(generation)

    def wait(self, generation: int, first: int, count: int, what: str) -> Iterator[int]:
        """Yield the tunnels that are up, again and again, until all are or the deadline has passed."""
        began = shown = time.monotonic()
        while True:
            up, now = self.up(generation, first, count), time.monotonic()
            if now - shown > 1.0 or up == count:
                shown = now
                sys.stderr.write(f"\r{what}: {up:,} of {count:,} after {now - began:.1f} s ")
                sys.stderr.flush()
            yield up
            if up == count or now - began > self.plan.deadline:
                sys.stderr.write("\n")
                return
            time.sleep(0.05)

    def open(self, first: int, count: int, what: str) -> None:
        for up in self.wait(1, first, count, what):
            if up == count:
                return
        raise StormError(f"{what}: not all came up\n{self.cluster.story()}")

    def hit_relays(self) -> None:
        number = signal.SIGKILL if self.plan.how == "kill" else signal.SIGTERM
        for relay in self.hit:
            relay.signal(number)
        for relay in self.hit:
            relay.wait_end()
            relay.start()

    def relays_serve(self) -> bool:
        """Whether both relays serve again."""
        return all(any(SERVES in line for line in _process(relay).errors) for relay in self.hit)

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU by name."""
        found = {member.name: cpu_of(_process(member).pid) for member in self.cluster.members}
        found["redis"] = cpu_of(self.cluster.redis.pid)
        found["postgres"] = cpu_of(self.cluster.postgres.pid, family=True)
        found["clients"] = sum(child.cpu() for child in self.clients)
        return found


def _process(member: Member) -> WhookProcess:
    assert member.process is not None, f"{member.name} does not run"
    return member.process


def run_storm(plan: Plan) -> Outcome:
    """Run a storm and tell what was seen. Raises StormError if it could not begin."""
    spare = 1 if plan.bystanders else 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="whook-storm-")))
        state_file = stack.enter_context((folder / "state").open("w+b"))
        state_file.truncate(plan.tunnels + plan.bystanders)
        state = stack.enter_context(mmap.mmap(state_file.fileno(), 0))
        cluster = stack.enter_context(
            running_cluster(
                folder,
                conductors=plan.conductors,
                relays=plan.relays + spare,
                settings={"WHOOK_DAEMON_DRAIN_SECONDS": "10", **plan.settings},
            )
        )
        add_projects(cluster, PREFIX, plan.tunnels + plan.bystanders)
        storm = _Storm(plan, cluster, state, str(folder / "state"))
        if spare:
            _settle_bystanders(storm, stack)
        for first in range(0, plan.tunnels, CLIENTS_EACH):
            storm.start_clients(stack, first, min(CLIENTS_EACH, plan.tunnels - first), storm.hit)
        storm.open(0, plan.tunnels, "opening")
        ports = ",".join(str(port) for port in cluster.ingress)
        command = ["-m", "bench.storm_probe", ports, "--state", storm.path, "--prefix", PREFIX]
        command += ["--storm", str(plan.tunnels), "--rate", str(plan.webhooks)]
        probe = stack.enter_context(Child(*command, name="probe"))
        probe.message()
        return _measure(storm, probe)


def _settle_bystanders(storm: _Storm, stack: ExitStack) -> None:
    """Open the bystanders' tunnels while their relay is the only one, and full with them."""
    plan = storm.plan
    for relay in storm.hit:
        relay.terminate()
    [spared] = storm.spared
    spared.terminate()
    spared.env["WHOOK_RELAY_CAPACITY"] = str(plan.bystanders)
    spared.start()
    spared.wait_ready()
    storm.start_clients(stack, plan.tunnels, plan.bystanders, storm.spared)
    storm.open(plan.tunnels, plan.bystanders, "bystanders")
    for relay in storm.hit:
        relay.start()
    for relay in storm.hit:
        relay.wait_ready()


def _measure(storm: _Storm, probe: Child) -> Outcome:
    plan, cluster, outcome = storm.plan, storm.cluster, Outcome()
    for child in [*storm.clients, probe]:
        child.tell("generation 2")
        child.message()
    before = storm.cpu() | {"probe": probe.cpu()}
    began = time.monotonic()
    storm.hit_relays()
    for relay in storm.hit:
        before[relay.name] = 0.0  # another process, counted from its start
    for up in storm.wait(2, 0, plan.tunnels, "coming back"):
        outcome.seconds = time.monotonic() - began
        outcome.missing = plan.tunnels - up
        if not outcome.half and up >= plan.tunnels / 2:
            outcome.half = outcome.seconds
        if not outcome.restart and storm.relays_serve():
            outcome.restart = outcome.seconds
    after = storm.cpu() | {"probe": probe.cpu()}
    outcome.cpu = {name: after[name] - before[name] for name in after}
    for member in cluster.members:
        outcome.resident_mib[member.name] = resident_of(_process(member).pid) / 2**20
    if outcome.missing:
        sys.stderr.write(f"{cluster.story()}\n")
    for child in storm.clients:
        child.tell("stats")
        said = child.message()
        for name, count in said["counts"].items():
            outcome.clients[name] = outcome.clients.get(name, 0) + count
        outcome.final += said["final"]
    probe.tell("stats")
    outcome.probe = {key: value for key, value in probe.message().items() if key != "at"}
    return outcome


def _row(plan: Plan, outcome: Outcome) -> tuple[object, ...]:
    load = {"clients", "probe"}
    server = sum(used for name, used in outcome.cpu.items() if name not in load)
    back, bystander = outcome.probe["back"], outcome.probe["bystander"]
    return (
        f"{plan.how}, {'resume' if plan.resume else 'API'}",
        plan.tunnels,
        outcome.missing,
        outcome.half,
        outcome.seconds,
        server / plan.tunnels * 1e3,
        back["answered"] + bystander["answered"],
        len(outcome.failures),
        back["p99_ms"],
        back["max_ms"],
        bystander["p99_ms"],
    )


HEADINGS = (
    "storm", "tunnels", "missing", "half back s", "all back s", "server CPU ms each", "webhooks", "failed",
    "back p99 ms", "back max ms", "bystander p99 ms",
)  # fmt: skip


def run(plan: Plan) -> str:
    """Run the storm and give the table."""
    outcome = run_storm(plan)
    table = markdown(HEADINGS, [_row(plan, outcome)])
    used = markdown(
        ("process", "CPU s", "MiB"),
        [(name, used, outcome.resident_mib.get(name, 0.0)) for name, used in sorted(outcome.cpu.items())],
    )
    said = [f"- {name}: {count:,}" for name, count in sorted(outcome.clients.items())]
    said += [f"- failed: {failure}" for failure in outcome.failures[:10]]
    said += [f"- refused for good: {line}" for line in outcome.final[:10]]
    text = "\n\n".join([table, used, "\n".join(said)])
    results: list[dict[str, object]] = [{"plan": asdict(plan), "outcome": asdict(outcome)}]
    return f"{text}\n\n{save('storm', results, text)}"


def add_arguments(parser: ArgumentParser) -> None:
    """Options of the command line."""
    parser.add_argument("--tunnels", type=int, default=10_000)
    parser.add_argument("--bystanders", type=int, default=100)
    parser.add_argument("--how", choices=("kill", "term"), default="kill", help="how the relays end")
    parser.add_argument("--webhooks", type=float, default=40.0, help="a second")
    parser.add_argument("--opening", type=float, default=800.0, help="tunnels opened a second, at first")
    parser.add_argument("--deadline", type=float, default=240.0, help="seconds for all to come back")
    parser.add_argument("--resume", action=BooleanOptionalAction, default=True)
    parser.add_argument("--set", action="append", default=[], metavar="WHOOK_…=VALUE", help="a setting")


def main(args: Namespace) -> str:
    """Run what the command line asks for."""
    return run(
        Plan(
            tunnels=args.tunnels,
            bystanders=args.bystanders,
            how=args.how,
            webhooks=args.webhooks,
            opening=args.opening,
            resume=args.resume,
            deadline=args.deadline,
            settings=dict(item.split("=", 1) for item in args.set),
        )
    )
