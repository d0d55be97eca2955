"""Webhooks at a steady rate over several conductors, what became of each, and a local server that counts.

Each request is its own, by its path, so that a lost or repeated one is seen. A conductor that is not ready or
refuses the connection is passed over, as a load balancer does; nothing is ever sent twice.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.deadlines import DEADLINE, Changing

SENDERS = 8


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and its end: a status, or 0 when the connection broke."""

    project: str
    path: str
    status: int
    began: float
    ended: float
    note: str = ""


class Counting:
    """A local server that counts what it answers, by path."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        lock = threading.Lock()
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                with lock:
                    seen[self.path] += 1
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join(DEADLINE)
        self._server.server_close()


def send(ports: list[int], project: str, path: str) -> Sent:
    """Send one webhook by the first of the ports that takes the connection."""
    began = time.monotonic()
    note = ""
    for port in ports:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2 * DEADLINE)
        try:
            connection.connect()
        except ConnectionRefusedError:
            continue
        try:
            headers = {"Host": f"{project}.localhost:{port}", "Connection": "close"}
            connection.request("POST", path, b"{}", headers)
            answer = connection.getresponse()
            body = answer.read()
            note = "" if answer.status == 200 else f"{port} {body[:200]!r}"
            return Sent(project, path, answer.status, began, time.monotonic(), note)
        except (OSError, http.client.HTTPException) as error:
            note = f"{port} {error!r}"
            return Sent(project, path, 0, began, time.monotonic(), note)
        finally:
            connection.close()
    return Sent(project, path, 0, began, time.monotonic(), "nobody took the connection")


def is_ready(port: int) -> bool:
    """Ask an admin port for readiness."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass
class Load:
    """What was sent so far. ``backends`` are ports of a conductor: ingress, admin."""

    backends: list[tuple[int, int]]
    projects: list[str]
    rate: float
    sent: list[Sent] = field(default_factory=list)
    unready: set[int] = field(default_factory=set)
    """Ports of conductors that are not to be sent anything."""
    health_checks: bool = True
    _changing: Changing = field(default_factory=Changing)
    _stop: threading.Event = field(default_factory=threading.Event)

    def _check(self) -> None:
        """Ask every conductor whether it is ready, as a load balancer does, ten times a second."""
        while not self._stop.wait(0.1):
            for ingress, admin in self.backends:
                ready = not self.health_checks or is_ready(admin)
                with self._changing:
                    (self.unready.discard if ready else self.unready.add)(ingress)

    def wait_all_ready(self) -> None:
        """Wait until the health checks have found every conductor ready."""
        self._changing.wait_for(lambda: not self.unready, "all conductors ready")

    def failed(self) -> list[Sent]:
        """What was not answered with 2xx."""
        return [one for one in self.sent if not 200 <= one.status < 300]

    def wait_sent(self, wanted: Callable[[Sent], bool], seconds: float) -> None:
        """Wait until a request like that has been answered."""
        self._changing.wait_for(lambda: self.sent and wanted(self.sent[-1]), "the load to go on", seconds)

    def _run(self, sender: int) -> None:
        number = 0
        due = time.monotonic()
        while not self._stop.is_set():
            project = self.projects[(sender + number) % len(self.projects)]
            # When the checks find nobody, all are tried: a check may just have been slow.
            known = [port for port, _ in self.backends]
            ports = [port for port in known if port not in self.unready] or known
            turn = number % max(1, len(ports))
            ports = ports[turn:] + ports[:turn]
            one = send(ports, project, f"/{sender}/{number}")
            with self._changing:
                self.sent.append(one)
            number += 1
            due = max(due + SENDERS / self.rate, time.monotonic() - 1.0)
            self._stop.wait(max(0.0, due - time.monotonic()))


@contextmanager
def steady_load(backends: list[tuple[int, int]], projects: list[str], rate: float) -> Iterator[Load]:
    """Send ``rate`` webhooks a second until the block ends; then every answer is there."""
    load = Load(backends, projects, rate)
    threads = [threading.Thread(target=load._run, args=(n,), daemon=True) for n in range(SENDERS)]
    threads.append(threading.Thread(target=load._check, daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load._stop.set()
        for thread in threads:
            thread.join(3 * DEADLINE)
