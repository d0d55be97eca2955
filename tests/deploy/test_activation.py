"""A conductor restarts under socket activation, and no sender notices: no systemd, but all that it does.

The listening socket stays with this process, as it would with systemd, so what comes while no conductor runs
waits in the kernel. Real daemons and real clients; half of the requests come on connections that are kept.
What one conductor does with its socket is in tests/whook_conductor/test_drain.py, and runs everywhere.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.cluster import START, running_cluster
from tests.support.counting import Counting
from tests.support.crowd import Crowd
from tests.support.load import steady_load

RATE = 200
"""Requests a second."""
PROJECTS = [f"shop{number}" for number in range(20)]
"""Each tunnel takes 256 requests at once: on this many the rush after a restart finds room."""
RESTARTS = 5


@pytest.mark.slow_deploy
@pytest.mark.timeout(180)
def test_restarts_of_a_conductor_refuse_and_lose_nothing(tmp_path: Path) -> None:
    settings = {"WHOOK_CONDUCTOR_DRAIN_DELAY": "1"}
    with (
        running_cluster(
            tmp_path, conductors=1, relays=1, settings=settings, balanced=False, activated=True
        ) as cluster,
        Counting() as local,
        Crowd(PROJECTS, server=cluster.api(), forward=local.url, token=cluster.token, home=tmp_path) as crowd,
    ):
        crowd.wait_ready(START)
        [conductor] = cluster.conductors
        with steady_load(cluster.front(), PROJECTS, RATE) as load:
            load.wait_for_seconds(1)
            for _ in range(RESTARTS):
                assert conductor.terminate() == 0, conductor.story()
                conductor.start()
                conductor.wait_ready()
                load.wait_for_seconds(1)
        print(f"\n{RESTARTS} restarts at {RATE} requests/s: {load.summary()}")
        faults = Counter((one.status, one.note[:200]) for one in load.failed())
        assert not faults, faults.most_common(5)
        assert Counter(one.status for one in load.sent) == {200: len(load.sent)}
        assert local.seen == {one.path: 1 for one in load.sent}
        assert all(crowd.up().values()), "no tunnel was lost"
