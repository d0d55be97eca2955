"""Logs at a central collector: what a webhook's event left behind arrives there, also after an outage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from tests.deploy.collector import (
    SHIPPED,
    Collector,
    Rsyslog,
    collector_processes,
    find_rsyslogd,
    running_collector,
)
from tests.support.dev import whook_connect, whook_serve
from tests.support.rawhttp import Peer


def send(port: int, host: bytes) -> str:
    """Send a webhook; give its event's id."""
    with Peer.connect(port) as peer:
        peer.send(b"POST /x HTTP/1.1\r\nHost: %b\r\nContent-Length: 2\r\n\r\nhi" % host)
        answer = peer.read_response(b"POST")
    found = answer.values(b"Whook-Event-Id")
    return found[0].decode() if found else str(json.loads(answer.body)["event_id"])


@pytest.mark.parametrize("part", ["collect.conf", "forward.conf", "input-files.conf", "input-journal.conf"])
def test_what_is_shipped_is_a_configuration(tmp_path: Path, part: str) -> None:
    if find_rsyslogd() is None:
        pytest.skip("rsyslogd is not installed")
    parts = ["global.conf", part]
    if part.startswith("input"):
        parts.insert(1, "forward.conf")
    assert Rsyslog(tmp_path, *parts).check() == ""
    (SHIPPED / part).read_text("ascii")


@pytest.mark.slow_deploy
def test_the_lines_of_a_webhook_arrive_with_its_event_and_its_tunnel(tmp_path: Path) -> None:
    with (
        collector_processes(tmp_path / "logs") as collector,
        whook_serve(tmp_path / "whook", "--log-format", "json", "--log-level", "debug") as server,
        whook_connect(server, "shop") as client,
    ):
        collector.attach("whook-1", server.process)
        send(client.port, client.host)
        event = client.process.wait_event("request")
        conductor = collector.wait_line(event="webhook answered", event_id=event["event_id"])
        relay = collector.wait_line(event="exchange carried", event_id=event["event_id"])
        assert conductor["tunnel"] == relay["tunnel"] == event["tunnel"]
        assert (conductor["daemon"], conductor["status"], conductor["project"]) == ("whook", 200, "shop")
        assert conductor["host"]


@pytest.mark.slow_deploy
def test_a_collector_that_was_away_gets_everything_once_it_is_back(tmp_path: Path) -> None:
    with (
        collector_processes(tmp_path / "logs") as collector,
        whook_serve(tmp_path / "whook", "--log-format", "json") as server,
    ):
        collector.attach("whook-1", server.process)
        collector.wait_line(event="started")
        collector.receiver.stop()
        refused = {send(server.port, b"nobody-%d.localhost" % n) for n in range(20)}
        for event_id in refused:
            server.process.wait_log(event_id, "webhook refused")
        collector.receiver.start()
        for event_id in refused:
            collector.wait_line(event="webhook refused", event_id=event_id)


@pytest.mark.slow_deploy
async def test_what_is_no_json_is_kept_apart(tmp_path: Path) -> None:
    async with running_collector(tmp_path / "logs") as collector:
        await trio.to_thread.run_sync(write_and_look, collector, tmp_path)


def write_and_look(collector: Collector, folder: Path) -> None:
    lines = ["Traceback (most recent call last):", json.dumps({"event": "x", "daemon": "../../evil"})]
    (collector.outputs / "odd.jsonl").write_text("\n".join(lines) + "\n")
    collector.wait_line(event="x")
    assert "Traceback" in (collector.collected / "other.log").read_text()
    assert not list(folder.rglob("evil*"))
