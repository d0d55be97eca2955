"""A conductor restarts under socket activation, and no sender notices: no systemd, but all that it does.

The listening socket stays with this process, as it would with systemd, so what comes while no conductor runs
waits in the kernel. Real daemons and real clients; half of the requests come on connections that are kept.
What one conductor does with its socket is in tests/whook_conductor/test_drain.py, and runs everywhere.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.cluster import START, Member, running_cluster
from tests.support.counting import Counting
from tests.support.crowd import Crowd
from tests.support.load import steady_load

RATE = int(os.environ.get("WHOOK_TEST_DEPLOY_RATE", "200"))
"""Requests a second."""
PROJECTS = [f"shop{number}" for number in range(20)]
"""Each tunnel takes 256 requests at once: on this many the rush after a restart finds room."""
RESTARTS = 5


SOON = 8.0
"""Seconds that a restart takes at most on a machine that has room for this."""
BRISK = 5.0
"""Seconds. Where no answer took longer, no tunnel was full, so nothing had to be stored."""


def restart(conductor: Member) -> float:
    """Do what systemctl restart does; give the seconds that it took."""
    began = time.monotonic()
    assert conductor.terminate() == 0, conductor.story()
    conductor.start()
    conductor.wait_ready()
    return time.monotonic() - began


@pytest.mark.slow_deploy
@pytest.mark.timeout(400)
def test_restarts_of_a_conductor_refuse_and_lose_nothing(tmp_path: Path) -> None:
    settings = {"WHOOK_CONDUCTOR_DRAIN_DELAY": "1"}
    with (
        running_cluster(
            tmp_path, conductors=1, relays=1, settings=settings, durable=True, balanced=False, activated=True
        ) as cluster,
        Counting() as local,
        Crowd(PROJECTS, server=cluster.api(), forward=local.url, token=cluster.token, home=tmp_path) as crowd,
    ):
        crowd.wait_ready(START)
        [conductor] = cluster.conductors
        if restart(conductor) > SOON and RATE >= 200:
            pytest.skip("too busy a machine: a conductor takes too long to start")
        with steady_load(cluster.front(), PROJECTS, RATE) as load:
            began = time.monotonic()
            load.wait_for_seconds(2)
            behind = (time.monotonic() - began) * RATE - len(load.sent)
            if behind > RATE:
                pytest.skip(f"too busy a machine: it does not serve {RATE} requests/s even without restarts")
            for _ in range(RESTARTS):
                restart(conductor)
                load.wait_for_seconds(1)
        print(f"\n{RESTARTS} restarts at {RATE} requests/s: {load.summary()}")
        faults = Counter((one.status, one.note[:200]) for one in load.failed())
        assert not faults, faults.most_common(5)
        if max(one.ended - one.began for one in load.sent) < BRISK:
            assert {one.status for one in load.sent} == {200}
        paths = {one.path for one in load.sent}
        ends = time.monotonic() + START
        while local.seen.keys() != paths and time.monotonic() < ends:
            time.sleep(0.1)  # what was stored is on its way
        assert local.seen == dict.fromkeys(paths, 1)
        assert all(crowd.up().values()), "no tunnel was lost"
