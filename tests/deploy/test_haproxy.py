"""HAProxy at the edge of a real cluster: TLS, HTTP/2, tunnels, path routing, who a sender is, and reloads.

tests/system/test_haproxy.py has what one request becomes; here everything behind HAProxy is real.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.certificates import issued
from tests.support.cluster import Member
from tests.support.edge import DEPLOY, DOMAIN, SHOP, Edge, Steady, needs_curl, running_edge
from tests.support.haproxy import Haproxy, Servers, check, find_haproxy, place, render, running_haproxy
from tests.support.rawhttp import Peer, PeerClosed
from tests.support.whook_process import WhookProcess

pytestmark = pytest.mark.skipif(find_haproxy() is None, reason="HAProxy is not installed")
NO_SUCH_NAME = 35
"""What curl says when there is no handshake (CURLE_SSL_CONNECT_ERROR)."""
TCP = DEPLOY / "haproxy" / "haproxy-tcp.cfg"


def test_haproxy_understands_the_configurations(tmp_path: Path) -> None:
    _, certificate = issued(tmp_path, DOMAIN)
    for name in ("haproxy.cfg", "haproxy-tcp.cfg"):
        text = (DEPLOY / "haproxy" / name).read_text("utf-8")
        configuration = tmp_path / name
        configuration.write_text(text.replace("/etc/haproxy/certs/", str(certificate)), "utf-8")
        assert check(configuration) == ""


def servers(edge: Edge, conductor: Member) -> dict[str, Servers]:
    """Every conductor of the configuration is this one."""
    both = {f"conductor-{n}": (conductor.ports[0], conductor.admin) for n in (1, 2)}
    apis = {f"conductor-{n}": (conductor.ports[1], conductor.admin) for n in (1, 2)}
    [relay] = edge.cluster.relays
    return {
        "conductors": both,
        "conductors_unchecked": both,
        "api": apis,
        "api_unchecked": apis,
        "auth": {"auth-1": (edge.cluster.auth.ports[0], edge.cluster.auth.admin)},
        "relay-1": {"relay-1": (relay.ports[0], relay.admin)},
    }


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    if not needs_curl():
        pytest.skip("curl with HTTP/2 is not installed")
    with running_edge(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


@contextmanager
def http(edge: Edge) -> Iterator[tuple[Haproxy, Path]]:
    """HAProxy as in haproxy.cfg, in front of the first conductor."""
    text = render(
        port=edge.port,
        tls_port=edge.tls_port,
        certificate=edge.certificate,
        backends=servers(edge, edge.cluster.conductors[0]),
        domain=DOMAIN,
    ).replace(f"relay-1.{DOMAIN}", "localhost")
    text = text.replace("-m str 127.0.0.1", f"-m str api.{DOMAIN}")
    configuration = edge.folder / "haproxy.cfg"
    configuration.write_text(text, "utf-8")
    with running_haproxy(configuration, port=edge.port, tls_port=edge.tls_port, master=True) as haproxy:
        yield haproxy, configuration


@contextmanager
def tcp(edge: Edge) -> Iterator[Haproxy]:
    """HAProxy as in haproxy-tcp.cfg, in front of the second conductor."""
    known = servers(edge, edge.cluster.conductors[1])
    text = TCP.read_text("utf-8").replace(f"relay-1.{DOMAIN}", "localhost")
    bind = f"bind 127.0.0.1:{edge.tls_port} ssl crt {edge.certificate}"
    text = text.replace("bind :443 ssl crt /etc/haproxy/certs/", bind)
    names = ("conductors", "api", "auth", "relay-1")
    configuration = edge.folder / "haproxy-tcp.cfg"
    configuration.write_text(place_checked(text, {name: known[name] for name in names}), "utf-8")
    assert check(configuration) == ""
    with running_haproxy(configuration, port=edge.tls_port, tls_port=edge.tls_port) as haproxy:
        yield haproxy


def place_checked(text: str, backends: dict[str, Servers]) -> str:
    placed = place(text, backends)
    assert "10.0.0." not in placed
    return placed


@pytest.fixture(scope="class")
def shop(edge: Edge) -> Iterator[tuple[Haproxy, Path, WhookProcess]]:
    """HAProxy, and a client whose tunnel goes through it."""
    with http(edge) as (haproxy, configuration), edge.client() as client:
        yield haproxy, configuration, client


@pytest.mark.slow_deploy
@pytest.mark.usefixtures("shop")
class TestHttp:
    def test_http2_ends_here(self, edge: Edge) -> None:
        options = ("--http2", "-d", '{"a":1}', "-H", "X-Forwarded-For: 9.9.9.9", "-w", " %{http_version}")
        assert edge.curl(edge.url(SHOP, "/hook?x=1"), *options) == (0, "ok 2")
        [*_, got] = edge.local.received
        assert (got.start_line, got.body) == (b"POST /hook?x=1 HTTP/1.1", b'{"a":1}')
        assert got.value(b"x-forwarded-proto") == b"https"
        # The sender's, HAProxy's, and the conductor's own about HAProxy.
        assert got.values(b"x-forwarded-for") == [b"9.9.9.9", b"127.0.0.1", b"127.0.0.1"]

    def test_a_name_without_a_certificate_gets_no_handshake(self, edge: Edge) -> None:
        code, said = edge.curl(edge.url("shop.example.org"), "-d", "{}")
        assert code == NO_SUCH_NAME, said

    def test_the_api_and_auth_answer(self, edge: Edge) -> None:
        code, said = edge.curl(
            edge.url(f"api.{DOMAIN}", "/openapi.json"), "-o", "/dev/null", "-w", "%{http_code}"
        )
        assert (code, said) == (0, "200")
        code, said = edge.curl(edge.url(f"auth.{DOMAIN}", "/login"), "-o", "/dev/null", "-w", "%{http_code}")
        assert (code, said) == (0, "200")

    def test_without_wildcard_names_the_path_says_the_project(self, edge: Edge) -> None:
        assert edge.curl(edge.url(DOMAIN, "/p/shop/hook%2F?y=1"), "-d", "x") == (0, "ok")
        assert edge.local.received[-1].start_line == b"POST /hook%2F?y=1 HTTP/1.1"

    def test_a_stranger_is_not_believed(self, edge: Edge) -> None:
        """Who comes to the conductor past HAProxy speaks for himself."""
        port = edge.cluster.conductors[0].ports[0]
        with Peer.connect(port, source="127.0.0.9") as peer:
            head = [b"GET / HTTP/1.1", b"Host: " + SHOP.encode(), b"X-Forwarded-For: 9.9.9.9"]
            peer.send(b"\r\n".join(head) + b"\r\n\r\n")
            assert peer.read_response().status == 200
        assert edge.local.received[-1].values(b"x-forwarded-for") == [b"9.9.9.9", b"127.0.0.9"]

    def test_a_reload_loses_nothing(self, edge: Edge, shop: tuple[Haproxy, Path, WhookProcess]) -> None:
        haproxy, configuration, client = shop
        with Steady(edge) as steady:
            steady.wait_more(20)
            for number in range(3):
                mark = len(haproxy.log)
                with configuration.open("a", encoding="utf-8") as file:
                    file.write(f"# reload {number}\n")
                haproxy.reload()
                haproxy.wait_log("Loading success", after=mark)
                steady.wait_more(20)
        assert (set(steady.answers), steady.faults) == ({200}, [])
        edge.local.wait_targets(steady.taken)
        assert not [event for event in client.events if event.get("event") == "lost"]


@pytest.mark.slow_deploy
def test_past_haproxy_in_tcp_mode_a_request_is_untouched(edge: Edge) -> None:
    with tcp(edge), edge.client(), edge.peer(source="127.0.0.5") as peer:
        lines = [b"X-GitHub-Event: push", b"x-GITHUB-event:  pull", b"X-Forwarded-For: 9.9.9.9"]
        head = [b"POST /a//b%2f?x HTTP/1.1", b"Host: " + SHOP.encode(), *lines, b"content-LENGTH: 2"]
        peer.send(b"\r\n".join(head) + b"\r\n\r\n{}")
        assert peer.read_response(b"POST").status == 200
        got = edge.local.received[-1]
        assert got.start_line == b"POST /a//b%2f?x HTTP/1.1"
        sent = [line.replace(b":  ", b": ") for line in lines]
        assert [line for line in got.lines if line in sent] == sent
        assert got.values(b"x-forwarded-for") == [b"9.9.9.9", b"127.0.0.5"]
        assert got.values(b"x-forwarded-proto") == [b"https"], "as HAProxy says; its own setting is http"
        assert edge.curl(edge.url(f"api.{DOMAIN}", "/openapi.json"), "-f", "-o", "/dev/null") == (0, "")
        code, said = edge.curl(edge.url("shop.example.org"), "-d", "{}")
        assert code == NO_SUCH_NAME, said


@pytest.mark.slow_deploy
def test_the_proxy_protocol_is_no_ones_but_the_proxys(edge: Edge) -> None:
    header = b"PROXY TCP4 9.9.9.9 127.0.0.1 1 2\r\n"
    request = b"GET / HTTP/1.1\r\nHost: " + SHOP.encode() + b"\r\n\r\n"
    port = edge.cluster.conductors[1].ports[0]
    for source, said in (("127.0.0.9", b""), ("127.0.0.1", b""), ("127.0.0.1", header)):  # it wants version 2
        with Peer.connect(port, source=source) as peer:
            peer.send(said + request)
            with pytest.raises((PeerClosed, ConnectionResetError)):
                peer.read_response()
    refused = 'limit="introduction",listener="ingress"} 3.0'
    url = f"http://127.0.0.1:{edge.cluster.conductors[1].admin}/metrics"
    code, metrics = edge.curl(url)
    assert code == 0
    assert refused in metrics
