"""What senders and developers see when a part dies in mid-request: an answer, and then recovery.

Every process is the real one; killing is SIGKILL, and nobody gets to say goodbye.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.deadlines import Gate
from tests.support.dev import Served, free_ports, whook_connect, whook_serve
from tests.support.origin import Origin, Script, Turn, ok, response
from tests.support.rawhttp import Peer, PeerClosed, post, post_bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server for all tests that leave it alive. Each has a project of its own."""
    with whook_serve(tmp_path_factory.mktemp("server")) as running:
        yield running


def held(gate: Gate, answer: bytes = b"late") -> Script:
    """Script: read the request, then answer only when the gate opens."""

    def script(turn: Turn) -> None:
        turn.read()
        gate.wait()
        turn.send(response(answer))

    return script


def test_client_killed_in_mid_request(server: Served) -> None:
    """It is stored, and a new client gets it at once; what cannot be stored is a 502 that names the cause."""
    with Origin(ok) as origin:
        gate = Gate("never opened before the kill")
        with whook_connect(server, "killed", forward=origin.url) as first:
            origin.script(held(gate))
            with Peer.connect(server.port) as sender, Peer.connect(server.port) as reader:
                sender.send(post_bytes(first.host, b"in flight"))
                origin.wait_received(1)
                origin.script(held(gate))
                reader.send(b"GET / HTTP/1.1\r\nHost: " + first.host + b"\r\n\r\n")
                origin.wait_received(2)
                first.process.kill()
                answer = sender.read_response(b"POST")
                refused = reader.read_response(b"GET")
            gate.open()
        assert refused.status == 502
        assert refused.value(b"content-type") == b"application/problem+json"
        assert b"urn:whook:problem:tunnel-lost" in refused.body
        assert answer.status == 202
        event_id = json.loads(answer.body)["event_id"]

        origin.reset()
        with whook_connect(server, "killed", forward=origin.url) as second:
            assert second.host == first.host
            stored = second.process.wait_event("request", event_id=event_id)
            assert (stored["status"], stored["origin"], stored["attempt"]) == (200, "buffered", 2)
            second.process.wait_event("caught-up")
            # The conductor may not have noted that yet, and let this one queue behind.
            assert post(server.port, second.host, b"again").status in {200, 202}
            origin.wait_received(2)


def test_client_killed_in_mid_response(server: Served) -> None:
    """A response that cannot be finished must not look finished: the connection breaks before its end."""
    with Origin(ok) as origin:
        gate = Gate("never opened before the kill")

        def half(turn: Turn) -> None:
            turn.read()
            turn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            gate.wait()

        origin.script(half)
        with (
            whook_connect(server, "half", forward=origin.url) as client,
            Peer.connect(server.port) as sender,
        ):
            sender.send(post_bytes(client.host))
            assert sender.read_head().status == 200
            assert sender.read_chunk() == b"first"
            client.process.kill()
            with pytest.raises(PeerClosed):
                sender.read_chunk()
            gate.open()


def test_server_killed_in_mid_request(tmp_path: Path) -> None:
    """The client survives, reconnects to the restarted server and keeps its public URL."""
    ports = free_ports()
    gate = Gate("never opened before the kill")
    with Origin(ok) as origin, whook_serve(tmp_path, ports=ports) as server:
        client = whook_connect(server, "shop", forward=origin.url)
        with client as connected:
            origin.script(held(gate))
            with Peer.connect(server.port) as sender:
                sender.send(post_bytes(connected.host, b"in flight"))
                origin.wait_received(1)
                server.process.kill()
                assert sender.at_end()
            gate.open()
            connected.process.wait_event("lost")
            seen = len(connected.process.events)
            with whook_serve(tmp_path, ports=ports, token=server.token) as again:
                back = connected.process.wait_event("back", after=seen)
                assert back["public_url"] == connected.public_url
                origin.reset()
                assert post(again.port, connected.host, b"after").status == 200


def test_local_server_is_down(server: Served) -> None:
    """A connection that the local server refuses is a 502 that says so, and the tunnel stays."""
    with Origin(ok) as origin:
        (nobody, *_) = free_ports()
        with whook_connect(server, "down", forward=f"http://127.0.0.1:{nobody}") as client:
            answer = post(server.port, client.host, b"{}")
            assert answer.status == 502
            assert b"json" in answer.value(b"content-type")
            event = client.process.wait_event("request")
            assert event["error"]
        with whook_connect(server, "down", forward=origin.url) as client:
            assert post(server.port, client.host, b"{}").status == 200


def test_local_server_restarts_between_requests(server: Served) -> None:
    """Pooled connections that the local server closed while idle cost no request."""
    with (
        Origin(ok) as origin,
        whook_connect(server, "restarts", forward=origin.url) as client,
    ):
        for _ in range(5):
            assert post(server.port, client.host, b"{}").status == 200
            origin.drop_connections()


def test_nobody_is_connected(server: Served) -> None:
    """A known project without a tunnel and an unknown project are told apart."""
    with Origin(ok) as origin:
        with whook_connect(server, "left", forward=origin.url) as client:
            host = client.host
            assert client.process.stop() == 0
        with Peer.connect(server.port) as sender:
            sender.send(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            answer = sender.read_response(b"GET")
        assert answer.status == 503
        assert int(answer.value(b"retry-after")) > 0
        assert b"urn:whook:problem:no-tunnel" in answer.body
        answer = post(server.port, host)
        assert answer.status == 202
        assert json.loads(answer.body)["status"] == "buffered"
        answer = post(server.port, host.replace(b"left", b"nobody"))
        assert answer.status == 404
        assert b"urn:whook:problem:unknown-project" in answer.body


def test_wrong_token_is_final(server: Served) -> None:
    """A refusal that no retry can mend ends the client with its documented exit status."""
    wrong = replace(server, token="whk_" + "0" * 40)
    with whook_connect(wrong, "wrong", wait=False) as client:
        assert client.process.wait() == 4
