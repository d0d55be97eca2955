"""Webhooks that are each unlike any other, senders that keep what they were told, a server that keeps all.

For tests about what must arrive after something was killed. Every webhook is sent once and never again, so
whatever arrives twice was delivered twice.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.deadlines import DEADLINE, Changing


@dataclass(frozen=True, slots=True)
class Told:
    """One webhook and what its sender was told: a status, or 0 when the connection broke."""

    project: str
    path: str
    body: bytes
    mark: str
    status: int
    began: float
    ended: float
    event_id: str = ""
    problem: str = ""
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """One delivery, as the local server got it."""

    path: str
    digest: bytes
    mark: str
    event_id: str
    attempt: str


def digest(body: bytes) -> bytes:
    """Return what tells one body from every other."""
    return hashlib.sha256(body).digest()


@dataclass
class Arrivals:
    """The local server. Answers 200 to everything."""

    all: list[Arrival] = field(default_factory=list)
    _changing: Changing = field(default_factory=Changing)

    def __post_init__(self) -> None:
        keep, changing = self.all, self._changing

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                told = self.headers
                arrival = Arrival(
                    self.path,
                    digest(body),
                    told.get("X-Mark", ""),
                    told.get("Whook-Event-Id", ""),
                    told.get("Whook-Attempt", ""),
                )
                with changing:
                    keep.append(arrival)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

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

    def wait_paths(self, paths: set[str], seconds: float) -> None:
        """Wait until all of them have arrived."""

        def look() -> bool:
            return paths <= {arrival.path for arrival in self.all}

        self._changing.wait_for(look, f"{len(paths)} webhooks to arrive", seconds)


class Senders:
    """Threads that post webhooks of one project as fast as they are answered, each on its own connection."""

    def __init__(self, port: int, project: str, *, count: int, threads: int, seed: int) -> None:
        self._port = port
        self._project = project
        self._share = count // threads
        self._seed = seed
        self.told: list[Told] = []
        self.changing = Changing()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def wait_told(self, count: int, seconds: float = 2 * DEADLINE) -> None:
        """Wait until so many have been told anything."""
        self.changing.wait_for(lambda: len(self.told) >= count, f"{count} answers", seconds)

    def join(self) -> list[Told]:
        """Wait until all has been sent."""
        for thread in self._threads:
            thread.join(4 * DEADLINE)
            assert not thread.is_alive(), "a sender hangs"
        return self.told

    def _run(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        connection: http.client.HTTPConnection | None = None
        for nth in range(self._share):
            size = 300_000 if chance.random() < 0.004 else chance.randrange(4_000)
            body, mark = chance.randbytes(size), chance.randbytes(8).hex()
            if connection is None:
                connection = self._connect()
            told = self._send(connection, f"/{number}/{nth}", body, mark)
            if not told.status:
                connection.close()
                connection = None
            with self.changing:
                self.told.append(told)
        if connection is not None:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        """Connect; the server may be away for a while."""
        ends = time.monotonic() + 2 * DEADLINE
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2 * DEADLINE)
            try:
                connection.connect()
            except OSError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.01)  # a listener that is not there can only be asked
            else:
                return connection

    def _send(self, connection: http.client.HTTPConnection, path: str, body: bytes, mark: str) -> Told:
        began = time.monotonic()
        headers = {"Host": f"{self._project}.localhost:{self._port}", "X-Mark": mark}
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            said = json.loads(answer.read() or b"{}")
        except (OSError, http.client.HTTPException):
            return Told(self._project, path, body, mark, 0, began, time.monotonic())
        return Told(
            self._project,
            path,
            body,
            mark,
            answer.status,
            began,
            time.monotonic(),
            said.get("event_id", ""),
            said.get("type", "") + said.get("limit", ""),
            answer.getheader("Retry-After"),
        )


def check_arrivals(told: list[Told], arrivals: list[Arrival]) -> dict[str, int]:
    """Check that what was acknowledged has arrived as it was sent, in order; return counts for the report.

    Order: of two webhooks the one that was acknowledged before the other was sent comes first.
    """
    acknowledged = [one for one in told if 200 <= one.status < 300]
    first: dict[str, int] = {}
    ids: dict[str, set[str]] = {}
    sent = {one.path: one for one in told}
    for place, arrival in enumerate(arrivals):
        first.setdefault(arrival.path, place)
        ids.setdefault(arrival.path, set()).add(arrival.event_id)
        origin = sent[arrival.path]
        assert arrival.digest == digest(origin.body), f"{arrival.path} has another body"
        assert arrival.mark == origin.mark, f"{arrival.path} has other fields"
    lost = [one.path for one in acknowledged if one.path not in first]
    assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged webhooks were lost: {lost[:5]}"
    for one in acknowledged:
        known = {one.event_id} if one.event_id else set(list(ids[one.path])[:1])
        assert ids[one.path] == known, f"{one.path} came under other ids: {ids[one.path]}"
    for project in {one.project for one in acknowledged}:
        _check_order([one for one in acknowledged if one.project == project and one.status == 202], first)
    return {
        "sent": len(told),
        "acknowledged": len(acknowledged),
        "refused": sum(one.status >= 300 for one in told),
        "broken": sum(one.status == 0 for one in told),
        "buffered": sum(one.status == 202 for one in acknowledged),
        "arrived": len(first),
        "deliveries": len(arrivals),
    }


def _check_order(buffered: list[Told], first: dict[str, int]) -> None:
    earlier = sorted(buffered, key=lambda one: one.ended)
    latest, at = -1, 0
    for one in sorted(buffered, key=lambda one: one.began):
        while at < len(earlier) and earlier[at].ended < one.began:
            latest = max(latest, first[earlier[at].path])
            at += 1
        assert first[one.path] > latest, f"{one.path} came before one that was acknowledged before it"
