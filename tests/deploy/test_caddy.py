"""Caddy at the edge of a real cluster, with the Caddyfile that is shipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.caddy import SHIPPED, Caddy, find_caddy, render, run_caddy, running_caddy
from tests.support.certificates import issued
from tests.support.cluster import free_ports
from tests.support.edge import DOMAIN, SHOP, Edge, Steady, needs_curl, running_edge
from tests.support.whook_process import WhookProcess

pytestmark = pytest.mark.skipif(find_caddy() is None, reason="Caddy is not installed")
ANOTHER_NAME = 60
"""What curl says of a certificate that is for other names (CURLE_PEER_FAILED_VERIFICATION)."""


def test_caddy_understands_the_configuration(tmp_path: Path) -> None:
    _, certificate = issued(tmp_path, f"*.{DOMAIN}")
    text = SHIPPED.read_text("utf-8")
    text = text.replace(
        "/etc/caddy/certs/hooks.pem /etc/caddy/certs/hooks.key", f"{certificate} {certificate}"
    )
    configuration = tmp_path / "Caddyfile"
    configuration.write_text(text, "utf-8")
    options = ("--adapter", "caddyfile", "--config", str(configuration))
    done = run_caddy("validate", *options, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "is not formatted" not in done.stderr, done.stderr


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    if not needs_curl():
        pytest.skip("curl with HTTP/2 is not installed")
    with running_edge(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


@pytest.fixture(scope="module")
def shop(edge: Edge) -> Iterator[tuple[Caddy, int, WhookProcess]]:
    """Caddy with its admin port, and a client whose tunnel goes through it."""
    conductor, auth, [relay] = edge.cluster.conductors[0], edge.cluster.auth, edge.cluster.relays
    [admin] = free_ports(1)
    text = render(
        port=edge.tls_port,
        admin=admin,
        certificate=edge.certificate,
        places={
            "10.0.0.6:8080 10.0.0.7:8080": f"127.0.0.1:{conductor.ports[0]}",
            "10.0.0.6:8081 10.0.0.7:8081": f"127.0.0.1:{conductor.ports[1]}",
            "10.0.0.5:8084": f"127.0.0.1:{auth.ports[0]}",
            "10.0.0.8:8082": f"127.0.0.1:{relay.ports[0]}",
        },
        health={"*": conductor.admin, "api": conductor.admin, "auth": auth.admin, "localhost": relay.admin},
    )
    configuration = edge.folder / "Caddyfile"
    configuration.write_text(text, "utf-8")
    with running_caddy(configuration) as caddy, edge.client() as client:
        yield caddy, admin, client


@pytest.mark.slow_deploy
@pytest.mark.usefixtures("shop")
class TestCaddy:
    def test_http2_ends_here(self, edge: Edge) -> None:
        options = ("--http2", "-d", '{"a":1}', "-H", "X-Forwarded-For: 9.9.9.9", "-H", "x-gitHUB-event: push")
        assert edge.curl(edge.url(SHOP, "/a//b%2f?x=1"), *options, "-w", " %{http_version}") == (0, "ok 2")
        [*_, got] = edge.local.received
        assert (got.start_line, got.body) == (b"POST /a//b%2f?x=1 HTTP/1.1", b'{"a":1}')
        assert got.value(b"x-forwarded-proto") == b"https"
        assert got.value(b"x-github-event") == b"push"
        assert not got.values(b"accept-encoding")
        # Caddy's own, which the conductor believes, and the conductor's about Caddy; not the sender's.
        assert got.values(b"x-forwarded-for") == [b"127.0.0.1", b"127.0.0.1"]

    def test_a_name_without_a_certificate_gets_the_wrong_one(self, edge: Edge) -> None:
        code, said = edge.curl(edge.url("shop.example.org"), "-d", "{}")
        assert code == ANOTHER_NAME, said

    def test_a_host_that_is_none_of_ours_is_not_answered_200(self, edge: Edge) -> None:
        options = ("-d", "{}", "-H", "Host: elsewhere.example.org", "-w", " %{http_code}")
        assert edge.curl(edge.url(SHOP), *options) == (0, "not here 421")

    def test_the_api_and_auth_answer(self, edge: Edge) -> None:
        for host, path in ((f"api.{DOMAIN}", "/openapi.json"), (f"auth.{DOMAIN}", "/login")):
            assert edge.curl(edge.url(host, path), "-o", "/dev/null", "-w", "%{http_code}") == (0, "200")

    def test_what_is_acknowledged_around_a_reload_is_delivered(
        self, edge: Edge, shop: tuple[Caddy, int, WhookProcess]
    ) -> None:
        """Caddy 2.6 breaks off what is under way at a reload, and the WebSockets: docs/operate/edge.md.

        The client is back at once; what comes meanwhile waits for it, or is stored.
        """
        caddy, admin, client = shop
        with Steady(edge) as steady:
            steady.wait_more(20)
            for _ in range(3):
                caddy.reload(admin)
                steady.wait_more(20)
        lost = [event for event in client.events if event.get("event") == "lost"]
        print(f"\n3 reloads, tunnel lost {len(lost)} times: {Counter(steady.answers)}, {steady.faults}")
        edge.local.wait_targets(steady.taken)
        assert edge.curl(edge.url(SHOP), "-d", "x") == (0, "ok")
