"""Redis, PostgreSQL or auth gone for a while: what is known goes on, what is new is refused, all comes back.

Under load, and with an eye on the CPU time of the daemons: nothing crashes, nothing spins. The sizes are in
`tests.support.site`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.support.cluster import START, Member
from tests.support.deadlines import DEADLINE
from tests.support.load import Load, send
from tests.support.site import FULL, OUTAGE, Site, cpu_seconds, wait_checks
from tests.support.whook_process import WhookProcess

pytestmark = pytest.mark.timeout(400)
HEARTBEAT = 5.0
"""Seconds between two renewals of a relay's lease, by default."""
SPIN = 0.3
"""More of a core than before, for as long as the outage lasts: a loop without a pause takes all there is."""


class CpuWatch:
    """CPU time of the daemons, in shares of a core, before an outage and during it."""

    def __init__(self, members: list[Member]) -> None:
        self._members = members
        self._marks: list[tuple[float, list[float]]] = []

    def mark(self) -> None:
        """Note what each has taken so far."""
        self._marks.append((time.monotonic(), [cpu_seconds(member) for member in self._members]))

    def _shares(self, n: int) -> list[float]:
        (begun, before), (ended, after) = self._marks[n : n + 2]
        return [(b - a) / (ended - begun) for a, b in zip(before, after, strict=True)]

    def check(self) -> str:
        """Check that nothing has spun between the second and the third mark; say what was taken."""
        before, during = self._shares(0), self._shares(1)
        names = [member.name for member in self._members]
        told = ", ".join(
            f"{name} {a:.2f} → {b:.2f}" for name, a, b in zip(names, before, during, strict=True)
        )
        assert all(b < a + SPIN for a, b in zip(before, during, strict=True)), told
        return told


@contextmanager
def outage(site: Site, members: list[Member]) -> Iterator[tuple[Load, CpuWatch]]:
    """Have load; the block is the outage, and stretches of it are compared with the time before."""
    watch = CpuWatch(members)
    pids = {member.name: member.process and member.process.pid for member in members}
    with site.load() as load:
        load.wait_for_seconds(1)
        watch.mark()
        load.wait_for_seconds(OUTAGE / 2)
        watch.mark()
        yield load, watch
    assert pids == {member.name: member.process and member.process.pid for member in members}
    assert all(member.process and member.process.returncode is None for member in members)
    assert not load.failed(), f"{load.failed()[:5]} of {len(load.sent)}; logs in {site.folder}"
    site.check_each_once(load)


def ask_for_tunnel(site: Site, project: str, conductor: int = 0) -> tuple[int, dict[str, object], str]:
    """POST /v1/tunnels at one conductor; give the status, what the body says, and Retry-After."""
    url = f"http://127.0.0.1:{site.cluster.conductors[conductor].ports[1]}/v1/tunnels"
    headers = {"Authorization": f"Bearer {site.cluster.token}", "Content-Type": "application/json"}
    request = Request(url, json.dumps({"project": project}).encode(), headers)
    try:
        with urlopen(request, timeout=DEADLINE) as answer:
            return answer.status, json.loads(answer.read()), ""
    except HTTPError as error:
        return error.code, json.loads(error.read()), error.headers.get("Retry-After", "")


def wait_refused(client: WhookProcess) -> str:
    """Wait until a client has been told 503; gives what it says."""
    found = client.wait_log("503", seconds=START)
    assert client.returncode is None
    return found


@contextmanager
def newcomer(site: Site, project: str) -> Iterator[WhookProcess | None]:
    """Have a client that asks for a tunnel while it cannot have one; scaled down, only afterwards."""
    if not FULL:
        yield None
        return
    with site.open_new(project) as client:
        print(f"\nnew tunnel: {wait_refused(client)}")
        yield client


def wait_opened(site: Site, client: WhookProcess | None, project: str) -> float:
    """Wait until a new client has its tunnel, and use it; give the seconds that it took."""
    begun = time.monotonic()
    if client is None:
        with site.open_new(project) as another:
            return wait_opened(site, another, project)
    client.wait_event("ready", seconds=START)
    took = time.monotonic() - begun
    for port in site.cluster.ingress:
        assert send([port], project, "/new").good
    site.local.seen.pop("/new", None)
    return took


def test_redis_gone_and_back_empty(site: Site) -> None:
    cluster = site.cluster
    # A relay notices at its next heartbeat.
    daemons = [*cluster.conductors, *(cluster.relays if FULL else [])]
    mark = len(cluster.haproxy.log) if cluster.haproxy is not None else 0
    with outage(site, cluster.members) as (load, watch):
        cluster.redis.kill()
        gone = time.monotonic()
        said = {member.name: wait_checks(member, well=False) for member in daemons}
        with newcomer(site, "duringredis") as client:
            load.wait_for_seconds(max(0.0, OUTAGE - (time.monotonic() - gone)))
            watch.mark()
            cluster.redis.start()
            back = time.monotonic()
            for relay in cluster.relays:
                wait_checks(relay, well=True)
            leases = time.monotonic() - back
            opened = wait_opened(site, client, "duringredis") + leases
            if FULL:  # conductors give relays 8 s to put everything back
                for conductor in cluster.conductors:
                    wait_checks(conductor, well=True)
            routes = time.monotonic() - back
        load.wait_for_seconds(1)
    print(f"\nduring: {said}")
    print(f"back: leases after {leases:.1f} s, new tunnel after {opened:.1f} s, routes after {routes:.1f} s")
    print(f"{load.summary()}\nCPU shares: {watch.check()}")
    if FULL:
        assert leases < HEARTBEAT
    degraded = [said[conductor.name]["routes"].startswith("degraded") for conductor in cluster.conductors]
    if cluster.haproxy is not None and all(degraded):  # said with 200: nobody is taken out
        assert not [line for line in cluster.haproxy.log[mark:] if "wrong status" in line]
    site.wait_all()


def test_postgresql_gone(site: Site) -> None:
    cluster = site.cluster
    with outage(site, cluster.members) as (load, watch):
        cluster.postgres.stop()
        gone = time.monotonic()
        # Of a project that nobody knows, nothing can be said now: neither made nor denied.
        status, problem, retry = ask_for_tunnel(site, "duringpostgres")
        assert (status, bool(retry)) == (503, True), problem
        assert send(cluster.ingress, "nobodyhasthis", "/unknown").status == 503
        with newcomer(site, "duringpostgres") as client:
            load.wait_for_seconds(max(0.0, OUTAGE - (time.monotonic() - gone)))
            watch.mark()
            cluster.postgres.start()
            opened = wait_opened(site, client, "duringpostgres")
        load.wait_for_seconds(1)
    print(f"\nthe new tunnel after {opened:.1f} s\n{load.summary()}\nCPU shares: {watch.check()}")
    site.wait_all()


def test_auth_gone(site: Site) -> None:
    cluster = site.cluster
    asked = Request(
        f"http://127.0.0.1:{cluster.conductors[0].ports[1]}/v1/projects/{site.projects[0]}",
        headers={"Authorization": f"Bearer {cluster.token}"},
    )
    with urlopen(asked, timeout=DEADLINE) as answer:
        assert answer.status == 200
    with outage(site, [*cluster.conductors, *cluster.relays]) as (load, watch):
        cluster.auth.kill()
        gone = time.monotonic()
        status, problem, retry = ask_for_tunnel(site, "duringauth")
        assert (status, bool(retry)) == (503, True), problem
        if cluster.haproxy is not None:  # what a person sees who logs in: HAProxy has nobody to ask
            assert send([cluster.haproxy.port], "auth", "/oauth/device").status == 503
        with newcomer(site, "duringauth") as client:
            load.wait_for_seconds(max(0.0, OUTAGE - (time.monotonic() - gone)))
            watch.mark()
            cluster.auth.start()
            cluster.auth.wait_ready()
            opened = wait_opened(site, client, "duringauth")
        load.wait_for_seconds(1)
    print(f"\nthe new tunnel after {opened:.1f} s\n{load.summary()}\nCPU shares: {watch.check()}")
    site.wait_all()
