"""The HAProxy configuration that is shipped: it is valid, and what passes through is what was sent.

HAProxy itself writes field names in lower case; everything else of a request is the sender's.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import self_signed
from tests.support.cluster import free_ports
from tests.support.deadlines import DEADLINE
from tests.support.haproxy import Haproxy, check, find_haproxy, render, running_haproxy
from tests.support.origin import Origin, Turn, reply, response
from tests.support.rawhttp import Peer

pytestmark = pytest.mark.skipif(find_haproxy() is None, reason="HAProxy is not installed")
READY = response(b"ok")


class Behind:
    """HAProxy with two conductors, an API and auth behind it, all of them the test's own."""

    def __init__(
        self, haproxy: Haproxy, certificate: Path, origins: dict[str, Origin], health: Health
    ) -> None:
        self.haproxy = haproxy
        self.certificate = certificate
        self.origins = origins
        self.health = health

    def peer(self, *, tls: bool = False) -> Peer:
        """Connect as a sender does."""
        if not tls:
            return Peer.connect(self.haproxy.port)
        sock = socket.create_connection(("127.0.0.1", self.haproxy.tls_port), DEADLINE)
        context = ssl.create_default_context(cafile=str(self.certificate))
        return Peer(context.wrap_socket(sock, server_hostname="localhost"))

    def ask(self, host: str, *lines: bytes, tls: bool = False, target: bytes = b"/") -> tuple[bytes, bytes]:
        """Send a POST; give the answer's body, and the head that arrived."""
        head = [b"POST %s HTTP/1.1" % target, b"Host: %s" % host.encode(), *lines, b"Content-Length: 4"]
        peer = self.peer(tls=tls)
        try:
            peer.send(b"\r\n".join(head) + b"\r\n\r\nbody")
            answer = peer.read_body(peer.read_head(), to_end=False)
        finally:
            peer.close()
        name = answer.body.decode()
        return answer.body, self.origins[name].received[-1].head


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    tmp_path = tmp_path_factory.mktemp("haproxy")

    def answers(name: str) -> Origin:
        return Origin(reply(response(name.encode())))

    port, tls_port = free_ports(2)
    certificate = self_signed(tmp_path)
    with (
        answers("conductor") as conductor,
        answers("api") as api,
        answers("auth") as auth,
        Health() as health,
    ):
        both = {f"conductor-{n}": (conductor.port, health.port) for n in (1, 2)}
        apis = {f"conductor-{n}": (api.port, health.port) for n in (1, 2)}
        text = render(
            port=port,
            tls_port=tls_port,
            certificate=certificate,
            backends={
                "conductors": both,
                "conductors_unchecked": both,
                "api": apis,
                "api_unchecked": apis,
                "auth": {"auth-1": (auth.port, health.port)},
            },
            domain="localhost",
        )
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text(text, "utf-8")
        assert check(configuration) == ""
        with running_haproxy(configuration, port=port, tls_port=tls_port) as haproxy:
            yield Behind(haproxy, certificate, {"conductor": conductor, "api": api, "auth": auth}, health)


class Health(Origin):
    """An admin port; `ready` is what it says of readiness."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.ready = threading.Event()
        self.ready.set()

    def _answer(self, turn: Turn) -> None:
        turn.read()
        turn.send(READY if self.ready.is_set() else response(b"", status=b"503 Service Unavailable"))


def fields(head: bytes) -> list[tuple[bytes, bytes]]:
    lines = head.split(b"\r\n")[1:]
    return [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines) if name]


def test_hosts_lead_to_conductors_api_and_auth(behind: Behind) -> None:
    assert behind.ask("shop.localhost")[0] == b"conductor"
    assert behind.ask("127.0.0.1:80")[0] == b"api"
    assert behind.ask("auth.LOCALHOST")[0] == b"auth"


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_request_arrives_as_it_was_sent(behind: Behind, *, tls: bool) -> None:
    sent = [
        (b"X-Twice", b"one"),
        (b"Stripe-Signature", b"t=1,v1=  5257a869"),
        (b"x-twice", b"TWO"),
        (b"X-Empty", b""),
        (b"X-Long", b"z" * 60_000),
    ]
    target = b"/a//b/../c%2F%7e?q=1&q=2&&x=%20+;"
    lines = [name + b": " + value for name, value in sent]
    spoofed = [b"X-Forwarded-Host: evil", b"X-Forwarded-Proto: gopher", b"X-Forwarded-For: 9.9.9.9"]
    _, head = behind.ask("shop.localhost", *lines, *spoofed, tls=tls, target=target)
    assert head.startswith(b"POST " + target + b" HTTP/1.1\r\n")
    got = fields(head)
    assert [pair for pair in got if pair[0] in {name.lower() for name, _ in sent}] == [
        (name.lower(), value) for name, value in sent
    ]
    assert [value for name, value in got if name == b"x-forwarded-proto"] == [b"https" if tls else b"http"]
    assert [value for name, value in got if name == b"x-forwarded-for"][-1] == b"127.0.0.1"
    assert not [value for name, value in got if name == b"x-forwarded-host"]


def test_nobody_ready_is_no_reason_to_refuse(behind: Behind) -> None:
    """When all say that they are not, which only an outage does, they are asked all the same."""
    behind.health.ready.clear()
    for number in (1, 2):
        behind.haproxy.wait_down(f"conductor-{number}", after=0)
        behind.haproxy.wait_log(f"Server api/conductor-{number} is DOWN")
    assert behind.ask("shop.localhost")[0] == b"conductor"
    assert behind.ask("127.0.0.1")[0] == b"api"
    mark = len(behind.haproxy.log)
    behind.health.ready.set()
    behind.haproxy.wait_up("conductor-1", after=mark)
    assert behind.ask("shop.localhost")[0] == b"conductor"
