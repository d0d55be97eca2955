"""The cluster as a whole, real processes: restarts that nobody notices, crashes that cost what they must.

Scaled down so that the suite stays fast; WHOOK_TEST_CLUSTER_TUNNELS, WHOOK_TEST_CLUSTER_RATE (a second) and
WHOOK_TEST_CLUSTER_OUTAGE (seconds) give other numbers. Runs without HAProxy in front: the senders themselves
follow the conductors' readiness.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.cluster import START, Cluster, running_cluster
from tests.support.deadlines import DEADLINE
from tests.support.load import Counting, Load, is_ready, send, steady_load
from tests.support.whook_process import WhookProcess

TUNNELS = int(os.environ.get("WHOOK_TEST_CLUSTER_TUNNELS", "6"))
OUTAGE = float(os.environ.get("WHOOK_TEST_CLUSTER_OUTAGE", "4"))
RATE = float(os.environ.get("WHOOK_TEST_CLUSTER_RATE", "60"))

pytestmark = pytest.mark.timeout(300)
PATIENT = pytest.mark.skipif(
    not os.environ.get("WHOOK_TEST_CLUSTER"),
    reason="needs a machine with nothing else to do: nox -s cluster",
)


@dataclass
class Site:
    """A cluster with tunnels to a local server."""

    cluster: Cluster
    local: Counting
    projects: list[str]
    clients: list[WhookProcess]

    def wait_all(self, seconds: float = DEADLINE) -> float:
        """Wait until all daemons that run are ready and every project answers through every conductor.

        Gives the seconds that it took.
        """
        begun = time.monotonic()
        for member in self.cluster.members:
            while member.process is not None and not is_ready(member.admin):
                assert time.monotonic() - begun < seconds, f"{member.name} is not ready"
        for project in self.projects:
            for port in self.cluster.ingress:
                while (found := send([port], project, "/probe")).status != 200:
                    assert time.monotonic() - begun < seconds, found
        return time.monotonic() - begun


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        cluster = stack.enter_context(running_cluster(folder))
        local = stack.enter_context(Counting())
        projects = [f"shop{n}" for n in range(TUNNELS)]
        clients: list[WhookProcess] = []
        for n, project in enumerate(projects):
            command = ("connect", project, "--json", "--server", cluster.api(n % 2), "--forward", local.url)
            home = folder / project
            process = WhookProcess(*command, home=home, env={"WHOOK_TOKEN": cluster.token})
            clients.append(stack.enter_context(process))
        for client in clients:
            client.wait_event("ready", seconds=START)
        found = Site(cluster, local, projects, clients)
        found.wait_all(START)
        yield found


@PATIENT
def test_rolling_restart_of_everything_loses_nothing(site: Site) -> None:
    cluster = site.cluster
    site.local.seen.clear()
    with steady_load(cluster.backends, site.projects, RATE) as load:
        for member in [*cluster.relays, *cluster.conductors]:
            assert member.terminate() == 0, member.story()
            member.start()
            member.wait_ready()
            load.wait_all_ready()  # as whoever restarts behind a load balancer does
    assert not load.failed(), f"{load.failed()[:5]} of {len(load.sent)}\n{cluster.story()}"
    site.local.seen.pop("/probe", None)
    assert all(count == 1 for count in site.local.seen.values())
    assert set(site.local.seen) == {one.path for one in load.sent}


@PATIENT
def test_a_relay_that_is_killed_costs_what_was_on_it(site: Site) -> None:
    cluster = site.cluster
    victim = cluster.relays[0]
    with steady_load(cluster.backends, site.projects, RATE) as load:
        victim.kill()
        killed = time.monotonic()
        site.wait_all()
        back = time.monotonic() - killed
    late = [one for one in load.failed() if one.began > killed + 5]
    assert not late, f"{late[:5]}; all back after {back:.1f} s\n{cluster.story()}"
    assert all(one.status in {502, 503} for one in load.failed()), load.failed()[:5]
    victim.start()
    victim.wait_ready()
    site.wait_all()


def test_a_conductor_that_is_killed_costs_its_own_requests(site: Site) -> None:
    cluster = site.cluster
    victim = cluster.conductors[0]
    with steady_load(cluster.backends, site.projects, RATE) as load:
        victim.kill()
        killed = time.monotonic()
        for project in site.projects:
            assert send(cluster.ingress[1:], project, "/after").status == 200
    assert all(one.status == 0 and one.began <= killed for one in load.failed()), load.failed()[:5]
    victim.start()
    victim.wait_ready()
    site.wait_all()


def _during(load: Load, seconds: float) -> None:
    """Let the load go on for so long."""
    ends = time.monotonic() + seconds
    load.wait_sent(lambda one: one.began > ends, seconds + DEADLINE)


def test_known_routes_survive_redis_which_comes_back_empty(site: Site) -> None:
    cluster = site.cluster
    with steady_load(cluster.backends, site.projects, RATE) as load:
        cluster.redis.kill()
        _during(load, OUTAGE)
        cluster.redis.start()
        _during(load, OUTAGE)
    assert not load.failed(), f"{load.failed()[:5]} of {len(load.sent)}\n{cluster.story()}"
    site.wait_all()
    _a_new_tunnel_opens(site, "afterredis")


def test_known_projects_survive_postgresql(site: Site) -> None:
    cluster = site.cluster
    with steady_load(cluster.backends, site.projects, RATE) as load:
        cluster.postgres.stop()
        _during(load, OUTAGE)
        cluster.postgres.start()
    assert not load.failed(), f"{load.failed()[:5]} of {len(load.sent)}\n{cluster.story()}"
    site.wait_all()
    _a_new_tunnel_opens(site, "afterpostgres")


def test_known_routes_survive_auth(site: Site) -> None:
    cluster = site.cluster
    with steady_load(cluster.backends, site.projects, RATE) as load:
        cluster.auth.kill()
        _during(load, OUTAGE)
        cluster.auth.start()
        cluster.auth.wait_ready()
    assert not load.failed(), f"{load.failed()[:5]} of {len(load.sent)}\n{cluster.story()}"
    site.wait_all()
    _a_new_tunnel_opens(site, "afterauth")


def _a_new_tunnel_opens(site: Site, project: str) -> None:
    home = site.cluster.auth.home.parent / project
    command = ("connect", project, "--json", "--server", site.cluster.api(), "--forward", site.local.url)
    with WhookProcess(*command, home=home, env={"WHOOK_TOKEN": site.cluster.token}) as process:
        process.wait_event("ready", seconds=START)
        assert send(site.cluster.ingress, project, "/new").status == 200
