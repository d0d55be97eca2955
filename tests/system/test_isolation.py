"""Whoever is slow, stalled or hostile delays nobody else, on one tunnel or on the ingress."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.support.deadlines import Gate
from tests.support.dev import Running, whook_dev
from tests.support.fidelity import noise
from tests.support.origin import Origin, Turn, ok, response
from tests.support.rawhttp import Peer, post, post_bytes

MANY = 199
LARGE = noise(400_000)
"""More than a stream's credit (256 KiB), so that each of the many needs grants of its own."""
HUGE = 32 * 1024 * 1024
"""More than every buffer between the local server and a sender that does not read."""


def by_target(turn: Turn) -> None:
    """Script: a response of the size that the target asks for, or no reading of the request at all."""
    if turn.head.target == b"/unread":
        stalled.wait()
        return
    turn.read()
    if turn.head.target == b"/huge":
        turn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HUGE)
        piece = noise(1 << 20)
        for _ in range(HUGE >> 20):
            turn.send(piece)
    else:
        turn.send(response(LARGE))


stalled = Gate("end of the stalled request")


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin(by_target) as origin:
        yield origin
        stalled.open()


@pytest.fixture(scope="module")
def tunnel(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("whook")
    with whook_dev(
        home, "--header-timeout", "1", "--connections-per-address", "300", forward=origin.url
    ) as dev:
        yield dev


def many_at_once(tunnel: Running) -> None:
    """Send many requests at once, all on the one tunnel, then read every answer whole."""
    with ExitStack() as stack:
        senders = [stack.enter_context(Peer.connect(tunnel.port)) for _ in range(MANY)]
        for sender in senders:
            sender.send(post_bytes(tunnel.host, b"{}", b"/large"))
        for sender in senders:
            answer = sender.read_response(b"POST")
            assert answer.status == 200
            assert answer.body == LARGE


def fill(peer: Peer) -> None:
    """Send until nobody on the way takes more, up to the whole body that was promised."""
    peer.sock.settimeout(0.5)
    piece, sent = noise(1 << 16), 0
    try:
        while sent < HUGE:
            sent += peer.sock.send(piece)
    except TimeoutError:
        return


def test_sender_that_does_not_read(tunnel: Running) -> None:
    with Peer.connect(tunnel.port) as stuck:
        stuck.send(post_bytes(tunnel.host, b"{}", b"/huge"))
        assert stuck.read_head().status == 200
        many_at_once(tunnel)
        assert len(stuck.take(HUGE)) == HUGE


def test_local_server_that_does_not_read(tunnel: Running, origin: Origin) -> None:
    with Peer.connect(tunnel.port) as stuck:
        head = post_bytes(tunnel.host, b"", b"/unread").replace(b"Length: 0", b"Length: %d" % HUGE)
        stuck.send(head)
        fill(stuck)
        many_at_once(tunnel)


def test_many_large_uploads_at_once(tunnel: Running) -> None:
    """They come faster than the client takes them; they wait for it, and none is refused."""
    body = noise(1 << 20)
    with ThreadPoolExecutor(64) as senders:
        answers = list(senders.map(lambda _: post(tunnel.port, tunnel.host, body, b"/large"), range(64)))
    assert [answer.status for answer in answers] == [200] * len(answers)


def test_slow_loris(tunnel: Running) -> None:
    """Heads that never end, from many addresses, do not delay a request, and are ended with 408."""
    with ExitStack() as stack:
        slow = [
            stack.enter_context(Peer.connect(tunnel.port, source=f"127.0.0.{2 + number % 200}"))
            for number in range(400)
        ]
        for sender in slow:
            sender.send(b"POST / HTTP/1.1\r\nHost: ")
        assert post(tunnel.port, tunnel.host, b"{}", b"/large").status == 200
        for sender in slow:
            assert sender.read_response(b"POST").status == 408
            assert sender.at_end()
        assert post(tunnel.port, tunnel.host, b"{}", b"/large").status == 200


def test_idle_connections_say_nothing(tunnel: Running) -> None:
    """A connection on which no request began is not answered: 408 is for requests that were begun."""
    with Peer.connect(tunnel.port) as idle, Peer.connect(tunnel.port) as slow:
        slow.send(b"P")
        assert slow.read_response(b"POST").status == 408
        idle.send(post_bytes(tunnel.host, b"{}", b"/large"))
        assert idle.read_response(b"POST").status == 200


def test_many_tunnels_worth_of_connections_from_one_address(tunnel: Running) -> None:
    """Connections above the limit of one address are refused in words; another address is not affected."""
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(Peer.connect(tunnel.port, source="127.0.0.3"))
        with Peer.connect(tunnel.port, source="127.0.0.3") as refused:
            refused.send(post_bytes(tunnel.host))
            assert refused.read_response(b"POST").status == 503
        with Peer.connect(tunnel.port, source="127.0.0.4") as other:
            other.send(post_bytes(tunnel.host, b"{}", b"/large"))
            assert other.read_response(b"POST").status == 200


def test_ok_is_still_ok(tunnel: Running, origin: Origin) -> None:
    """After all of the above the tunnel is the same one, and works."""
    origin.script(ok)
    assert post(tunnel.port, tunnel.host, b"{}").body == b"ok"
    assert not {e["event"] for e in tunnel.process.events} & {"lost", "back", "moved"}
