"""A cluster as operators run it, in use: HAProxy in front, Prometheus beside it, clients and webhooks.

For the tests of `nox -s deploy`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import START, Cluster, free_ports, running_cluster
from tests.support.counting import Counting
from tests.support.crowd import Crowd
from tests.support.dashboards import FILES, queries
from tests.support.load import Load, Sent, send, steady_load
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.torn import LARGE
from tests.support.whook_process import WhookProcess

PROJECTS = [f"shop{n}" for n in range(6)]
SLEEPER = "sleeper"
"""A project whose client goes away and comes again."""
TORN = "torn"
"""A project one of whose webhooks is damaged in the database."""
RATE = 20.0
"""Webhooks a second."""


@dataclass
class Deployment:
    """What runs."""

    cluster: Cluster
    prometheus: Prometheus
    local: Counting
    crowd: Crowd
    folder: Path

    @contextmanager
    def load(self) -> Iterator[Load]:
        """Send webhooks through HAProxy until the block ends."""
        with steady_load(self.cluster.front(), PROJECTS, RATE) as load:
            yield load

    def send(self, project: str, path: str) -> Sent:
        """Send one webhook through HAProxy."""
        return send(self.cluster.front().ports, project, path)

    def store_and_deliver(self, count: int = 5) -> list[str]:
        """Have webhooks stored while their client is away, see them wait, and have them delivered.

        Gives their event ids.
        """
        with self._client(SLEEPER):
            pass
        paths = [f"/stored/{n}" for n in range(count)]
        answers = [self.send(SLEEPER, path) for path in paths]
        assert [one.status for one in answers] == [202] * count, answers
        self.prometheus.wait_value(f"max(whook_queue_events) >= {count}")
        with self._client(SLEEPER):
            self.prometheus.wait_value('sum(whook_deliveries_total{result="answered"}) >= ' + str(count))
        assert all(self.local.seen[path] for path in paths), self.local.seen
        return [json.loads(one.note)["event_id"] for one in answers]

    @contextmanager
    def failing_delivery(self) -> Iterator[str]:
        """Have a large webhook stored, turn a bit of it in the database, and have it delivered.

        Gives its event id. See `torn`, which does the same to a single server.
        """
        with self._client(TORN):
            pass
        answer = send(self.cluster.front().ports, TORN, "/torn", body=bytes(LARGE))
        assert answer.status == 202, answer
        event_id: str = json.loads(answer.note)["event_id"]
        last = "length(content) - 1"
        torn = self.cluster.postgres.execute(
            self.cluster.postgres.url("conductor"),
            f"UPDATE bodies SET content = set_byte(content, {last}, get_byte(content, {last}) # 1) "
            f"WHERE event_id = '{event_id}' AND part = 0 RETURNING event_id",
        )
        assert torn == [(event_id,)]
        with self._client(TORN):
            yield event_id

    @contextmanager
    def _client(self, project: str) -> Iterator[WhookProcess]:
        command = ("connect", project, "--json", "--server", self.cluster.api(), "--forward", self.local.url)
        env = {"WHOOK_TOKEN": self.cluster.token}
        with WhookProcess(*command, home=self.folder / project, env=env) as client:
            client.wait_event("ready", seconds=START)
            yield client
            client.stop(START)

    def empty_queries(self) -> list[str]:
        """Ask every query of every dashboard; name those that never had a number."""
        return [
            f"{query.dashboard}: {query.panel}: {query.expr}"
            for path in FILES
            for query in queries(path)
            if not self.prometheus.history(query.expr)
        ]


@contextmanager
def running_deployment(folder: Path, settings: dict[str, str] | None = None) -> Iterator[Deployment]:
    """Run it until the block ends; ``settings`` are WHOOK_… variables of all daemons."""
    with ExitStack() as stack:
        cluster = stack.enter_context(running_cluster(folder, relays=2, settings=settings, durable=True))
        targets = {
            f"whook-{service}": [each.admin for each in cluster.members if each.service == service]
            for service in ("auth", "conductor", "relay")
        }
        [port] = free_ports(1)
        prometheus = stack.enter_context(
            running_prometheus(folder / "prometheus", port=port, targets=targets)
        )
        local = stack.enter_context(Counting())
        # Only now, so that Prometheus sees the tunnels being opened.
        crowd = Crowd(
            PROJECTS, server=cluster.api(), forward=local.url, token=cluster.token, home=folder / "crowd"
        )
        stack.enter_context(crowd)
        crowd.wait_ready(START)
        try:
            yield Deployment(cluster, prometheus, local, crowd, folder)
        finally:
            lines = [json.dumps(event) for event in crowd.events]
            (folder / "crowd.log").write_text("\n".join([*lines, *crowd.errors]), "utf-8")
