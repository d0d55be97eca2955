"""The cluster as a whole, real processes: restarts that nobody notices, crashes that cost what they must.

At full length by ``nox -s cluster``; see `tests.support.site` for the sizes. HAProxy stands in front where it
is installed; the report of the tests says when it does not.
"""

from __future__ import annotations

import time

import pytest

from tests.support.cluster import Member
from tests.support.haproxy import find_haproxy
from tests.support.load import send
from tests.support.site import FULL, SECONDS, TUNNELS, Site, log_time, tunnels
from whook_cli.app import run

pytestmark = pytest.mark.timeout(400)
BACK_WITHIN = 5.0
"""Seconds in which tunnels of a killed relay are to be back on others."""


def test_whether_haproxy_is_in_front(site: Site) -> None:
    if find_haproxy() is None:
        pytest.skip(
            "HAProxy is not installed: the cluster tests run without it, on the conductors themselves"
        )
    assert site.cluster.haproxy is not None


def test_tunnels_spread_evenly(site: Site) -> None:
    even = TUNNELS / len(site.cluster.relays)
    print(f"\n{TUNNELS} tunnels over {len(site.cluster.relays)} relays: {site.first_spread}")
    assert sum(site.first_spread) == TUNNELS
    # Of few tunnels a tenth is less than one.
    assert all(abs(count - even) <= max(even / 10, 2) for count in site.first_spread), site.first_spread


def test_rolling_restart_loses_nothing(site: Site) -> None:
    """Of every relay and every conductor; scaled down, of one of each."""
    relays, conductors = site.cluster.relays, site.cluster.conductors
    members = [*relays, *conductors] if FULL else [relays[0], conductors[0]]
    with site.load() as load:
        begun = time.monotonic()
        for member in members:
            site.restart(member, load)
        load.wait_for_seconds(max(1.0, SECONDS - (time.monotonic() - begun)))
    print(f"\n{len(members)} restarts: {load.summary()}")
    assert not load.failed(), f"{load.failed()[:5]} of {len(load.sent)}; logs in {site.folder}"
    site.check_each_once(load)
    assert all(site.crowd.up().values())


def test_an_operator_drains_a_relay_and_puts_it_back(site: Site) -> None:
    """Through the API, Redis and the bus: every tunnel moves, nothing is lost, and it takes tunnels again."""
    cluster = site.cluster
    victim = max(cluster.relays, key=tunnels)
    account = ("--server", cluster.api(), "--token", cluster.token)
    with site.load() as load:
        load.wait_for_seconds(0.5)
        assert run(["admin", "drain", victim.name, "--wait", "--timeout", "60", *account]) == 0
        assert tunnels(victim) == 0
        assert sum(map(tunnels, cluster.relays)) == TUNNELS
        assert run(["admin", "drain", victim.name, "--undo", *account]) == 0
        load.wait_for_seconds(0.5)
    print(f"\n{victim.name} drained: {load.summary()}")
    assert not load.failed(), f"{load.failed()[:5]} of {len(load.sent)}; logs in {site.folder}"
    site.check_each_once(load)
    assert all(site.crowd.up().values())


def test_a_relay_that_is_killed_costs_what_was_on_it(site: Site) -> None:
    cluster = site.cluster
    # One that has tunnels: after a rolling restart the last has none.
    victim = max(cluster.relays, key=tunnels)
    others = [relay for relay in cluster.relays if relay is not victim]
    had, marks = tunnels(victim), [_log_length(conductor) for conductor in cluster.conductors]
    seen = len(site.crowd.events)
    with site.load() as load:
        load.wait_for_seconds(2)
        victim.kill()
        site.crowd.wait_event("lost", after=seen)
        site.crowd.wait_all_up(30)
        load.wait_for_seconds(max(2.0, SECONDS / 3))
        left = sum(map(tunnels, others))
        victim.start()
        victim.wait_ready()
    down = max(
        log_time(_wait_trunk_down(conductor, victim.name, mark))
        for conductor, mark in zip(cluster.conductors, marks, strict=True)
    )
    back = [event["seconds"] for event in site.crowd.events[seen:] if event["event"] == "back"]
    longest = max(one.ended - one.began for one in load.sent)
    print(f"\n{had} tunnels lost, back after {max(back):.2f} s at most: {load.summary()}")
    assert max(back) < BACK_WITHIN
    assert left == TUNNELS
    # What was on it, and nothing that came when the conductors knew. Nothing hangs past its deadline. This
    # cluster's Redis forgets, so nothing can be stored: 503. With one that does not it is 202 (test_chaos).
    others_hit = [one for one in load.failed() if one.status not in {502, 503} or one.began > down]
    assert not others_hit, f"conductors knew at {down}: {others_hit[:5]}; logs in {site.folder}"
    assert longest < 30
    site.check_each_once(load, but=frozenset(one.path for one in load.failed()))
    site.wait_all()


def test_a_conductor_that_is_killed_costs_its_own_requests(site: Site) -> None:
    cluster = site.cluster
    victim = cluster.conductors[0]
    with site.load() as load:
        load.wait_for_seconds(2)
        mark = len(cluster.haproxy.log) if cluster.haproxy is not None else 0
        victim.kill()
        killed = time.monotonic()
        if cluster.haproxy is not None:
            cluster.haproxy.wait_down(victim.name, after=mark)
            found = time.monotonic() - killed
        else:
            found = 0.0
        for project in site.projects[:20]:
            assert send(cluster.ingress[1:], project, "/after").good
        load.wait_for_seconds(max(1.0, SECONDS / 3))
        site.start(victim, load, mark)
        load.wait_for_seconds(1)
    print(f"\ntaken out after {found:.2f} s: {load.summary()}")
    late = [one for one in load.failed() if one.began > killed]
    assert not late, f"killed at {killed}: {late[:5]}; logs in {site.folder}"
    site.local.seen.pop("/after", None)
    site.check_each_once(load, but=frozenset(one.path for one in load.failed()))
    site.wait_all()


def _log_length(conductor: Member) -> int:
    assert conductor.process is not None
    return len(conductor.process.errors)


def _wait_trunk_down(conductor: Member, relay: str, mark: int) -> str:
    assert conductor.process is not None
    return conductor.process.wait_log('"trunk down"', f'"{relay}"', after=mark)
