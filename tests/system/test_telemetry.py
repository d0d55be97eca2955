"""Webhooks through real processes, in their logs, in a trace, and at the local server: as they were sent.

Everything is on that could leave something behind: the level debug, traces, error reports, the storage key.
"""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.collector_server import DSN_KEY, Collected, running_collector_server
from tests.support.deadlines import DEADLINE
from tests.support.dev import Running, Served, whook_connect, whook_serve
from tests.support.origin import Origin, ok
from tests.support.rawhttp import Peer
from tests.support.torn import STORAGE_KEY, fail_a_delivery
from tests.support.whook_process import Event

SENT = {
    "Authorization": "Bearer sender-" + secrets.token_hex(8),
    "Cookie": "session=" + secrets.token_hex(8),
    "X-Hub-Signature-256": "sha256=" + secrets.token_hex(32),
}
NUMBER = "4242-" + secrets.token_hex(8)
BODY = json.dumps({"card": NUMBER}).encode()
QUERY = "secret-in-the-url-" + secrets.token_hex(8)
TRACE, SPAN = secrets.token_hex(16), secrets.token_hex(8)
TRACEPARENT, TRACESTATE = f"00-{TRACE}-{SPAN}-01", "vendor=a,other=b"


@dataclass(frozen=True)
class Rig:
    server: Served
    client: Running
    origin: Origin
    collector: Collected
    admin: int

    def admin_put(self, path: str, body: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=DEADLINE)
        try:
            connection.request("PUT", path, body)
            return connection.getresponse().read().decode().strip()
        finally:
            connection.close()

    def send(self, *lines: str) -> tuple[list[bytes], Event]:
        """Send a webhook; give the lines of its head at the local server, and what the client said."""
        self.origin.reset()
        self.origin.script(ok)
        head = [
            f"POST /hook?{QUERY} HTTP/1.1",
            f"Host: {self.client.host.decode()}",
            f"Content-Length: {len(BODY)}",
            *(f"{name}: {value}" for name, value in SENT.items()),
            *lines,
        ]
        with Peer.connect(self.client.port) as peer:
            peer.send("\r\n".join([*head, "", ""]).encode(), BODY)
            assert peer.read_response(b"POST").status == 200
        (received,) = self.origin.wait_received(1)
        event_id = received.value(b"Whook-Event-Id").decode()
        return received.lines, self.client.process.wait_event("request", event_id=event_id)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    home = tmp_path_factory.mktemp("whook")
    with pytest.MonkeyPatch.context() as patch, running_collector_server() as collector, Origin() as origin:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.otlp)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        env = {"WHOOK_DAEMON_ERROR_DSN": collector.dsn, "WHOOK_BACKPLANE_STORAGE_KEY": STORAGE_KEY}
        options = ("--log-level", "debug", "--log-format", "json")
        with (
            whook_serve(home, *options, env=env) as server,
            whook_connect(server, "shop", forward=origin.url) as client,
        ):
            line = json.loads(server.process.wait_log('"started"'))
            yield Rig(server, client, origin, collector, int(line["admin"].rpartition(":")[2]))


def test_one_event_id_and_one_tunnel_id_go_all_the_way(rig: Rig) -> None:
    _, client = rig.send()
    about = f'"event_id": "{client["event_id"]}"'
    conductor = json.loads(rig.server.process.wait_log(about, "webhook answered"))
    relay = json.loads(rig.server.process.wait_log(about, "exchange carried"))
    assert client["tunnel"].startswith("tun_")
    assert {conductor["tunnel"], relay["tunnel"], client["tunnel"]} == {client["tunnel"]}
    assert json.loads(rig.server.process.wait_log("tunnel opened"))["tunnel"] == client["tunnel"]
    assert (conductor["project"], conductor["status"], conductor["attempt"]) == ("shop", 200, 1)


def test_a_trace_has_every_hop_and_the_request_is_untouched(rig: Rig) -> None:
    lines, _ = rig.send(f"traceparent: {TRACEPARENT}", f"tracestate: {TRACESTATE}")
    assert f"traceparent: {TRACEPARENT}".encode() in lines
    assert f"tracestate: {TRACESTATE}".encode() in lines
    spans = rig.collector.wait(lambda: hops(rig, TRACE), "five spans")
    assert [span["service"] for span in spans] == ["whook", "whook", "whook", "whook-cli", "whook-cli"]
    assert [span["parent"] for span in spans] == [SPAN, *(span["id"] for span in spans[:-1])]
    assert len({span["attributes"]["whook.event_id"] for span in spans}) == 1
    assert all(span["end"] >= span["start"] > 1.7e18 for span in spans)


def hops(rig: Rig, trace: str) -> list[Event] | None:
    """Give the spans of a trace from the outside in, once all five are there."""
    by_parent = {span["parent"]: span for span in rig.collector.spans() if span["trace"] == trace}
    if len(by_parent) < 5:
        return None
    found, parent = [], SPAN if trace == TRACE else ""
    while parent in by_parent:
        found.append(by_parent[parent])
        parent = found[-1]["id"]
    return found


def test_without_a_trace_of_the_senders_nothing_is_added(rig: Rig) -> None:
    lines, event = rig.send()
    assert not [line for line in lines if line.lower().startswith((b"traceparent", b"tracestate"))]

    def look() -> list[Event] | None:
        spans = of_event(rig, event)
        return hops(rig, spans[0]["trace"]) if spans else None

    assert len(rig.collector.wait(look, "five spans")) == 5


def of_event(rig: Rig, event: Event) -> list[Event]:
    return [s for s in rig.collector.spans() if s["attributes"]["whook.event_id"] == event["event_id"]]


def test_what_the_sender_does_not_record_leaves_no_trace(rig: Rig) -> None:
    unrecorded = secrets.token_hex(16)
    rig.send(f"traceparent: 00-{unrecorded}-{SPAN}-00")
    _, recorded = rig.send(f"traceparent: 00-{secrets.token_hex(16)}-{SPAN}-01")
    rig.collector.wait(lambda: len(of_event(rig, recorded)) == 5, "the next one")
    assert unrecorded not in {span["trace"] for span in rig.collector.spans()}


def test_a_refusal_is_logged_with_its_event_and_the_level_changes_at_run_time(rig: Rig) -> None:
    assert rig.admin_put("/debug/log-level", "info") == "info"
    _, quiet = rig.send()
    with Peer.connect(rig.server.port) as peer:
        peer.send(b"POST /x HTTP/1.1\r\nHost: nobody.localhost\r\nContent-Length: 0\r\n\r\n")
        refused = json.loads(peer.read_response(b"POST").body)["event_id"]
    line = json.loads(rig.server.process.wait_log(refused, "webhook refused"))
    assert (line["problem"], line["status"]) == ("unknown-project", 404)
    assert not [line for line in rig.server.process.errors if quiet["event_id"] in line]
    assert rig.admin_put("/debug/log-exchanges", "1") == "1"
    _, chosen = rig.send()
    rig.server.process.wait_log(chosen["event_id"], "exchange carried")
    assert rig.admin_put("/debug/log-level", "debug") == "debug"


def test_an_error_inside_is_reported_with_its_event(rig: Rig) -> None:
    event_id = fail_a_delivery(rig.server)
    (error,) = rig.collector.wait(
        lambda: [e for e in rig.collector.errors() if e["tags"].get("event_id") == event_id], "a report"
    )
    assert error["transaction"] == "a delivery failed inside the conductor"
    assert error["exception"]["values"][-1]["type"] == "SealError"
    assert error["release"].startswith("whook@")


def test_no_secret_and_no_body_is_in_any_output(rig: Rig) -> None:
    """It runs last, and looks at all that the tests above have left."""
    rig.send()
    texts = [*rig.server.process.errors, *rig.client.process.errors]
    texts += [repr(span) for span in rig.collector.spans()]
    texts += [repr(error) for error in rig.collector.errors()]
    assert len(texts) > 20
    hidden = [*SENT.values(), BODY.decode(), NUMBER, QUERY, rig.server.token, DSN_KEY, STORAGE_KEY]
    assert not [text for text in texts for secret in hidden if secret in text]
