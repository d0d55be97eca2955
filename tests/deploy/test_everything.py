"""All of deploy/ at once: the one test that an operator would make before going live.

A cluster on a real Redis and a real PostgreSQL behind HAProxy, watched by Prometheus, its logs collected by
rsyslog, its errors reported to a Bugsink, all of it configured as it is shipped. Webhooks go in, some are
stored and delivered, one is damaged in the database, and a relay is killed: HAProxy keeps answering, the
alert fires and ends, every dashboard has its data, the lines of a webhook are at the collector, and the error
is in Bugsink.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.bugsink import running_bugsink
from tests.deploy.collector import collector_processes
from tests.support.deployment import PROJECTS, Deployment, running_deployment
from tests.support.haproxy import find_haproxy
from tests.support.load import Load, Sent
from tests.support.prometheus import find_program
from tests.support.site import tunnels
from tests.support.torn import STORAGE_KEY

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
    with ExitStack() as stack:
        bugsink = stack.enter_context(running_bugsink(tmp_path / "bugsink"))
        collector = stack.enter_context(collector_processes(tmp_path / "logs"))
        settings = {"WHOOK_DAEMON_ERROR_DSN": bugsink.dsn, "WHOOK_BACKPLANE_STORAGE_KEY": STORAGE_KEY}
        deployment = stack.enter_context(running_deployment(tmp_path, settings))
        for member in deployment.cluster.members:
            assert member.process is not None
            collector.attach(member.name, member.process)
        with deployment.load() as sending:
            stored = deployment.store_and_deliver()
            break_a_relay(deployment)
        assert len(set(stored)) == len(stored) > 0
        line = collector.wait_line(event="webhook buffered", event_id=stored[0])
        assert line["daemon"] == "whook-conductor"
        with deployment.failing_delivery() as event_id:
            error = bugsink.wait_event(event_id=event_id)
        assert error["transaction"] == "a delivery failed inside the conductor"
        collector.wait_line(event="a delivery failed inside the conductor", event_id=event_id)
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
