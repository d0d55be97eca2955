"""All of deploy/ at once: the one test that an operator would make before going live.

A cluster on a real Redis and a real PostgreSQL behind the HAProxy configuration that is shipped, watched by
Prometheus with the rules that are shipped. Webhooks go in, some are stored and delivered, and a relay is
killed: HAProxy keeps answering, the alert fires and ends, and every dashboard has its data.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.support.deployment import PROJECTS, Deployment, in_thread, running_deployment
from tests.support.haproxy import find_haproxy
from tests.support.load import Sent
from tests.support.prometheus import find_program
from tests.support.site import tunnels

MISSING = [name for name in ("prometheus", "promtool") if find_program(name) is None]
if find_haproxy() is None:
    MISSING.append("haproxy")

BROKEN_OFF = 502
"""What a sender gets whose webhook was on its way through the relay that was killed: it may have arrived."""


@pytest.mark.slow_deploy
@pytest.mark.timeout(400)
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
async def test_a_relay_is_killed_in_front_of_everybody(tmp_path: Path) -> None:
    settings: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(in_thread(running_deployment(tmp_path, settings)))
        await trio.to_thread.run_sync(break_a_relay, deployment)
        assert await trio.to_thread.run_sync(deployment.empty_queries) == []


def break_a_relay(deployment: Deployment) -> None:
    """Kill the relay with more tunnels under load, start it again, and see what everybody notices."""
    cluster, prometheus = deployment.cluster, deployment.prometheus
    relay = max(cluster.relays, key=tunnels)
    instance = f"127.0.0.1:{relay.admin}"
    assert cluster.haproxy is not None
    with deployment.load() as sending:
        deployment.store_and_deliver()
        prometheus.wait_alert("WhookTargetDown", firing=False)
        relay.kill()
        prometheus.wait_alert("WhookTargetDown", job="whook-relay", instance=instance)
        deployment.crowd.wait_all_up(60)
        for project in PROJECTS:  # all of them now through the other relay
            answer = deployment.send(project, "/after-the-kill")
            assert answer.good, answer
        relay.start()
        relay.wait_ready()
        prometheus.wait_alert("WhookTargetDown", firing=False)
    answered = [one for one in sending.sent if one.status]
    assert len(answered) == len(sending.sent), "HAProxy closed a connection without an answer"
    assert not [one for one in sending.sent if not acceptable(one)], sending.summary()
    assert deployment.local.seen["/after-the-kill"] == len(PROJECTS)


def acceptable(one: Sent) -> bool:
    """Whether a sender may get this while a relay dies: delivered, stored, or broken off on the way."""
    return one.good or one.status == BROKEN_OFF
