"""All of deploy/ at once: the one test that an operator would make before going live.

A cluster on a real Redis and a real PostgreSQL behind the HAProxy configuration that is shipped, watched by
Prometheus with the rules that are shipped. Webhooks go in, some are stored and delivered, and a relay is
killed: HAProxy keeps answering, the alert fires and ends, and every dashboard has its data.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.deployment import PROJECTS, Deployment, running_deployment
from tests.support.haproxy import find_haproxy
from tests.support.load import Load, Sent
from tests.support.prometheus import find_program
from tests.support.site import tunnels

MISSING = [name for name in ("prometheus", "promtool") if find_program(name) is None]
if find_haproxy() is None:
    MISSING.append("haproxy")

AFTERWARDS = "/after-the-kill"
BROKEN_OFF = 502
"""What a sender gets whose webhook was on its way through the relay that was killed: it may have arrived."""


@pytest.mark.slow_deploy
@pytest.mark.timeout(400)
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_a_relay_is_killed_in_front_of_everybody(tmp_path: Path) -> None:
    settings: dict[str, str] = {}
    with ExitStack() as stack:
        deployment = stack.enter_context(running_deployment(tmp_path, settings))
        with deployment.load() as sending:
            stored = deployment.store_and_deliver()
            break_a_relay(deployment)
        assert len(set(stored)) == len(stored) > 0
        check_senders(deployment, sending)
        assert deployment.empty_queries() == []


def break_a_relay(deployment: Deployment) -> None:
    """Kill the relay with more tunnels under load and start it again; the alert fires, and ends."""
    cluster, prometheus = deployment.cluster, deployment.prometheus
    relay = max(cluster.relays, key=tunnels)
    instance = f"127.0.0.1:{relay.admin}"
    prometheus.wait_alert("WhookTargetDown", firing=False)
    relay.kill()
    prometheus.wait_alert("WhookTargetDown", job="whook-relay", instance=instance)
    deployment.crowd.wait_all_up(60)
    for project in PROJECTS:  # all of them now through the other relay
        answer = deployment.send(project, AFTERWARDS)
        assert answer.good, answer
    relay.start()
    relay.wait_ready()
    prometheus.wait_alert("WhookTargetDown", firing=False)


def check_senders(deployment: Deployment, sending: Load) -> None:
    """HAProxy has answered everything, and only what was on its way through the relay was broken off."""
    assert deployment.cluster.haproxy is not None
    unanswered = [one for one in sending.sent if not one.status]
    assert not unanswered, f"HAProxy closed a connection without an answer: {unanswered[:3]}"
    others = [one for one in sending.sent if not acceptable(one)]
    assert not others, f"{others[:3]}; {sending.summary()}"
    assert deployment.local.seen[AFTERWARDS] == len(PROJECTS)


def acceptable(one: Sent) -> bool:
    """Whether a sender may get this while a relay dies: delivered, stored, or broken off on the way."""
    return one.good or one.status == BROKEN_OFF
