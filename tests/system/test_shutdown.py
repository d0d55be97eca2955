"""Shutdown: one SIGTERM drains, a second one stops now, and the process always ends by its drain deadline."""

from __future__ import annotations

from pathlib import Path

from tests.support.deadlines import Gate
from tests.support.dev import whook_connect, whook_dev, whook_serve
from tests.support.origin import Origin, Turn, ok, response
from tests.support.rawhttp import Peer, post_bytes


def test_requests_in_flight_finish(tmp_path: Path) -> None:
    gate = Gate("the answer")

    def held(turn: Turn) -> None:
        turn.read()
        gate.wait()
        turn.send(response(b"in time"))

    with Origin() as origin, whook_dev(tmp_path, forward=origin.url) as dev:
        origin.script(held)
        with Peer.connect(dev.port) as sender:
            sender.send(post_bytes(dev.host, b"{}"))
            origin.wait_received(1)
            dev.process.terminate()
            dev.process.wait_event("draining")
            gate.open()
            assert sender.read_response(b"POST").body == b"in time"
            assert sender.at_end()
        assert dev.process.wait() == 0


def test_a_request_that_had_begun_is_the_last_on_its_connection(tmp_path: Path) -> None:
    """On a connection that is already there; a new connection is refused by the kernel."""
    gate = Gate("the answer")

    def held(turn: Turn) -> None:
        turn.read()
        gate.wait()
        turn.send(response(b"in time"))

    with Origin() as origin, whook_dev(tmp_path, forward=origin.url) as dev:
        origin.script(held, ok)
        with Peer.connect(dev.port) as first, Peer.connect(dev.port) as second:
            first.send(post_bytes(dev.host, b"{}"))
            second.send(b"POST /begun HTTP/1.1\r\nHost: ")
            origin.wait_received(1)
            dev.process.terminate()
            dev.process.wait_event("draining")
            second.send(dev.host + b"\r\nContent-Length: 2\r\n\r\n{}")
            last = second.read_response(b"POST")
            assert (last.status, last.value(b"connection")) == (200, b"close")
            gate.open()
            assert first.read_response(b"POST").body == b"in time"
        assert dev.process.wait() == 0


def test_stalled_sender_does_not_hold_it_up(tmp_path: Path) -> None:
    """A sender that never reads its response is cut off at the drain deadline."""

    def huge(turn: Turn) -> None:
        turn.read()
        turn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                turn.send(bytes(1 << 20))
        except OSError:
            turn.close()

    with Origin() as origin, whook_dev(tmp_path, "--drain-timeout", "1", forward=origin.url) as dev:
        origin.script(huge)
        with Peer.connect(dev.port) as stuck:
            stuck.send(post_bytes(dev.host, b"{}"))
            assert stuck.read_head().status == 200
            dev.process.terminate()
            dev.process.wait()


def test_silent_local_server_does_not_hold_it_up(tmp_path: Path) -> None:
    """A request that the local server never answers ends with the drain deadline."""
    gate = Gate("the end of the test")

    def silent(turn: Turn) -> None:
        turn.read()
        gate.wait()

    with Origin() as origin, whook_dev(tmp_path, "--drain-timeout", "1", forward=origin.url) as dev:
        origin.script(silent)
        with Peer.connect(dev.port) as sender:
            sender.send(post_bytes(dev.host, b"{}"))
            origin.wait_received(1)
            dev.process.terminate()
            dev.process.wait()
        gate.open()


def test_second_signal_stops_now(tmp_path: Path) -> None:
    gate = Gate("the end of the test")

    def silent(turn: Turn) -> None:
        turn.read()
        gate.wait()

    with Origin() as origin, whook_dev(tmp_path, "--drain-timeout", "600", forward=origin.url) as dev:
        origin.script(silent)
        with Peer.connect(dev.port) as sender:
            sender.send(post_bytes(dev.host, b"{}"))
            origin.wait_received(1)
            dev.process.terminate()
            dev.process.wait_event("draining")
            dev.process.terminate()
            assert dev.process.wait() == 130
        gate.open()


def test_idle_server_ends_at_once(tmp_path: Path) -> None:
    """With idle keep-alive connections and an idle tunnel there is nothing to wait for."""
    with (
        Origin(ok) as origin,
        whook_serve(tmp_path, "--drain-timeout", "600") as server,
        whook_connect(server, "shop", forward=origin.url) as client,
        Peer.connect(server.port) as sender,
    ):
        sender.send(post_bytes(client.host, b"{}"))
        assert sender.read_response(b"POST").status == 200
        assert server.process.stop() == 0
        assert sender.at_end()
        assert client.process.stop() == 0
