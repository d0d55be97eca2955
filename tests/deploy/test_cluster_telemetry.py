"""A cluster of processes of their own: one trace over all of them, its lines collected, and no secret."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

import pytest

from tests.deploy.collector import collector_processes
from tests.support.cluster import Cluster, running_cluster
from tests.support.collector_server import DSN_KEY, Collected, running_collector_server
from tests.support.origin import Origin, ok
from tests.support.rawhttp import Peer
from tests.support.whook_process import Event, WhookProcess

TRACE, SPAN = secrets.token_hex(16), secrets.token_hex(8)
STORAGE_KEY = secrets.token_hex(32)


def spans_of(collected: Collected) -> list[Event] | None:
    """Give the spans of the trace from the outside in, once all five are there."""
    by_parent = {span["parent"]: span for span in collected.spans() if span["trace"] == TRACE}
    found, parent = [], SPAN
    while parent in by_parent:
        found.append(by_parent[parent])
        parent = found[-1]["id"]
    return found if len(found) == 5 else None


def send(cluster: Cluster, host: str, authorization: str) -> None:
    with Peer.connect(cluster.ingress[0]) as peer:
        head = [
            "POST /hook HTTP/1.1",
            f"Host: {host}",
            "Content-Length: 2",
            f"Authorization: {authorization}",
            f"traceparent: 00-{TRACE}-{SPAN}-01",
        ]
        peer.send("\r\n".join([*head, "", ""]).encode(), b"hi")
        assert peer.read_response(b"POST").status == 200


@pytest.mark.slow_deploy
def test_a_webhook_through_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authorization = "Bearer sender-" + secrets.token_hex(8)
    with running_collector_server() as collected, Origin(ok) as origin:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collected.otlp)
        settings = {
            "WHOOK_DAEMON_LOG_LEVEL": "debug",
            "WHOOK_DAEMON_ERROR_DSN": collected.dsn,
            "WHOOK_BACKPLANE_STORAGE_KEY": STORAGE_KEY,
        }
        with (
            collector_processes(tmp_path / "logs") as collector,
            running_cluster(
                tmp_path / "cluster", conductors=1, relays=1, settings=settings, balanced=False
            ) as cluster,
            WhookProcess(
                *("connect", "shop", "--json", "--server", cluster.api(), "--forward", origin.url),
                home=tmp_path / "client",
                env={"WHOOK_TOKEN": cluster.token},
            ) as client,
        ):
            for member in cluster.members:
                assert member.process is not None
                collector.attach(member.name, member.process)
            ready = client.wait_event("ready")
            send(cluster, re.sub(r"^https?://", "", ready["public_url"]), authorization)
            event = client.wait_event("request")
            spans = collected.wait(lambda: spans_of(collected), "five spans")
            assert [span["service"] for span in spans] == [
                "whook-conductor", "whook-conductor", "whook-relay", "whook-cli", "whook-cli",
            ]  # fmt: skip
            assert {span["attributes"]["whook.event_id"] for span in spans} == {event["event_id"]}
            for daemon, said in (("conductor", "webhook answered"), ("relay", "exchange carried")):
                line = collector.wait_line(event=said, event_id=event["event_id"])
                assert (line["daemon"], line["tunnel"]) == (f"whook-{daemon}", ready["tunnel"])
            secret = [authorization, cluster.token, DSN_KEY, STORAGE_KEY]
            secret += [v for m in cluster.members for n, v in m.env.items() if n.endswith("_KEY")]
            assert len(set(secret)) >= 6
            texts = [line for m in cluster.members if m.process for line in m.process.errors]
            texts += [json.dumps(line) for line in collector.lines()] + [str(s) for s in collected.spans()]
            assert len(texts) > 30
            assert not [text for text in texts for one in secret if one in text]
