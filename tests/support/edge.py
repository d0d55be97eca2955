"""A cluster behind what stands at its edge: real daemons, a real client, curl, configurations as shipped.

Both conductors hold the same projects; the second one has the PROXY protocol on its ingress. The relay is
reached through the edge as well, under the name localhost, since a client has to resolve it.
"""

from __future__ import annotations

import http.client
import itertools
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.certificates import issued
from tests.support.cluster import START, Cluster, Member, free_ports, running_cluster
from tests.support.deadlines import DEADLINE, Changing
from tests.support.origin import Origin, reply, response
from tests.support.rawhttp import Peer
from tests.support.whook_process import WhookProcess

DOMAIN = "hooks.example.com"
SHOP = f"shop.{DOMAIN}"
DEPLOY = Path(__file__).parents[2] / "deploy"


@dataclass
class Edge:
    """What stands behind the edge, and where the edge listens."""

    cluster: Cluster
    local: Origin
    authority: Path
    certificate: Path
    """With its key; for the domain, all below it, and localhost."""
    port: int
    tls_port: int
    folder: Path

    def curl(self, url: str, *options: str) -> tuple[int, str]:
        """Run curl, which finds every name here; give its exit status and what it printed."""
        program = shutil.which("curl")
        assert program is not None
        every = [f"*:{port}:127.0.0.1" for port in (self.port, self.tls_port)]
        command = [program, "-sS", "--cacert", str(self.authority), "--max-time", str(DEADLINE)]
        for one in every:
            command += ["--resolve", one]
        done = subprocess.run(
            [*command, *options, url], capture_output=True, text=True, check=False, timeout=2 * DEADLINE
        )
        return done.returncode, done.stdout + done.stderr

    def url(self, host: str, path: str = "/") -> str:
        """Address of a host through the edge, with TLS."""
        return f"https://{host}:{self.tls_port}{path}"

    def peer(self, *, name: str = SHOP, source: str = "127.0.0.1") -> Peer:
        """Connect with TLS as a sender does who comes from this address."""
        sock = socket.create_connection(("127.0.0.1", self.tls_port), DEADLINE, (source, 0))
        context = ssl.create_default_context(cafile=str(self.authority))
        return Peer(context.wrap_socket(sock, server_hostname=name))

    @contextmanager
    def client(self) -> Iterator[WhookProcess]:
        """Run `whook connect shop`, its tunnel through the edge, until the block ends."""
        command = ("connect", "shop", "--json", "--server", self.cluster.api(), "--forward", self.local.url)
        env = {"WHOOK_TOKEN": self.cluster.token, "SSL_CERT_FILE": str(self.authority)}
        with WhookProcess(*command, home=self.folder / "shop", env=env) as client:
            client.wait_event("ready", seconds=START)
            yield client


def needs_curl() -> bool:
    """Whether there is a curl that can do what the tests want."""
    program = shutil.which("curl")
    if program is None:
        return False
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return "HTTP2" in done.stdout


@contextmanager
def running_edge(folder: Path) -> Iterator[Edge]:
    """Run the cluster; the edge is for the caller to start."""
    port, tls_port = free_ports(2)

    def prepare(member: Member) -> None:
        if member.service == "conductor":
            member.env["WHOOK_CONDUCTOR_BASE_DOMAIN"] = DOMAIN
            member.env["WHOOK_CONDUCTOR_PATH_PREFIX"] = "/p/"
            member.env["WHOOK_CONDUCTOR_PUBLIC_SCHEME"] = "https"
        if member.name == "conductor-2":
            member.env["WHOOK_CONDUCTOR_PROXY_PROTOCOL"] = "v2"
            member.env["WHOOK_CONDUCTOR_PUBLIC_SCHEME"] = "http"
        if member.service == "relay":
            member.env["WHOOK_RELAY_TUNNEL_URL"] = f"wss://localhost:{tls_port}"

    authority, certificate = issued(folder, DOMAIN, f"*.{DOMAIN}", "localhost")
    with (
        running_cluster(
            folder, conductors=2, relays=1, durable=True, balanced=False, prepare=prepare
        ) as cluster,
        Origin(reply(response(b"ok"))) as local,
    ):
        yield Edge(cluster, local, authority, certificate, port, tls_port, folder)


class Steady:
    """Requests over TLS, one after the other, each on a connection of its own; what became of them."""

    def __init__(self, edge: Edge) -> None:
        self.answers: list[int] = []
        self.taken: set[bytes] = set()
        """Targets of the requests that were answered with 2xx."""
        self.faults: list[str] = []
        self._edge = edge
        self._changing = Changing()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def wait_more(self, count: int) -> None:
        """Wait for so many answers more."""
        wanted = len(self.answers) + count
        self._changing.wait_for(lambda: len(self.answers) >= wanted or None, f"{wanted} answers")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(DEADLINE)

    def _run(self) -> None:
        context = ssl.create_default_context(cafile=str(self._edge.authority))
        for number in itertools.count():
            if self._over.is_set():
                break
            target = f"/steady/{number}"
            connection = Sni(SHOP, self._edge.tls_port, context)
            try:
                connection.request("POST", target, b"{}", {"Connection": "close"})
                status = connection.getresponse().status
                with self._changing:
                    self.answers.append(status)
                    if status // 100 == 2:
                        self.taken.add(target.encode())
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(repr(error))
            finally:
                connection.close()


class Sni(http.client.HTTPSConnection):
    """A connection to a host here, whatever its name resolves to."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=DEADLINE, context=context)
        self._tls = context

    def connect(self) -> None:
        """Connect to this machine, and shake hands with the host's name."""
        sock = socket.create_connection(("127.0.0.1", self.port), DEADLINE)
        self.sock = self._tls.wrap_socket(sock, server_hostname=self.host)
