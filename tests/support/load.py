"""Webhooks at a steady rate, what became of each, and who may be sent them.

Each request is its own, by its path, so that a lost or repeated one is seen. They are sent when they are due,
however long others take, and never twice: only a connection that could not be opened goes to another port.
Half of them come on connections that are kept alive. `Load` runs on Trio in a thread of its own.
"""

from __future__ import annotations

import http.client
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import h11
import trio

from tests.support.deadlines import DEADLINE, Changing

TIMEOUT = 60.0
"""Seconds after which a request hangs: twice the conductors' request_deadline."""
CHECK = 0.2
"""Seconds between two health checks where there is no HAProxy to make them."""
SLOW_EACH = 5
"""One request of so many is answered slowly."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and its end: a status, or 0 when the connection broke. Times are monotonic."""

    project: str
    path: str
    status: int
    began: float
    ended: float
    note: str = ""
    """The beginning of the answer's body, or what went wrong."""

    @property
    def good(self) -> bool:
        """Whether it was answered with 2xx."""
        return 200 <= self.status < 300


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


def send(ports: Sequence[int], project: str, path: str, *, body: bytes = b"{}") -> Sent:
    """Send one webhook by the first of the ports that takes the connection."""
    began = time.monotonic()
    for port in ports:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        try:
            connection.connect()
        except ConnectionRefusedError:
            continue
        try:
            headers = {"Host": f"{project}.localhost:{port}", "Connection": "close"}
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()[:300].decode("latin-1")
            return Sent(project, path, answer.status, began, time.monotonic(), text)
        except (OSError, http.client.HTTPException) as error:
            return Sent(project, path, 0, began, time.monotonic(), f"{port} {error!r}")
        finally:
            connection.close()
    return Sent(project, path, 0, began, time.monotonic(), "nobody took the connection")


@dataclass(slots=True)
class Front:
    """Where webhooks go in: HAProxy, or else the conductors themselves by their readiness."""

    ports: list[int]
    admin: list[int] = field(default_factory=list)
    """To ask for readiness, in the order of ``ports``; empty where HAProxy does it."""
    unready: set[int] = field(default_factory=set)

    def candidates(self, turn: int) -> list[int]:
        """Give the ports to try. When the checks find nobody, all are tried."""
        ports = [port for port in self.ports if port not in self.unready] or self.ports
        turn %= len(ports)
        return ports[turn:] + ports[:turn]


class Load:
    """A load under way; see `steady_load`."""

    def __init__(self, front: Front, projects: Sequence[str], rate: float) -> None:
        self.sent: list[Sent] = []
        self.under_way = 0
        self._front = front
        self._projects = projects
        self._rate = rate
        self._changing = Changing()
        self._idle: list[tuple[trio.SocketStream, h11.Connection]] = []
        self._token: trio.lowlevel.TrioToken | None = None
        self._over: trio.Event | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="load", daemon=True)

    # -- for the test -------------------------------------------------------------------------------------

    def failed(self) -> list[Sent]:
        """What was not answered with 2xx."""
        return [one for one in self.sent if not one.good]

    def summary(self) -> str:
        """Counts by status, and the longest time that an answer took."""
        counts: dict[int, int] = {}
        for one in self.sent:
            counts[one.status] = counts.get(one.status, 0) + 1
        times = sorted(one.ended - one.began for one in self.sent) or [0.0]
        p99 = times[min(len(times) - 1, math.ceil(len(times) * 0.99))]
        lasted = max((one.ended for one in self.sent), default=0) - min(
            (o.began for o in self.sent), default=0
        )
        median = times[len(times) // 2]
        return (
            f"{len(self.sent)} requests in {lasted:.1f} s: {dict(sorted(counts.items()))}; "
            f"median {median * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {times[-1]:.2f} s"
        )

    def wait_sent(self, wanted: Callable[[Sent], bool], seconds: float = DEADLINE) -> None:
        """Wait until a request like that has been answered."""
        self._changing.wait_for(lambda: self.sent and wanted(self.sent[-1]), "the load to go on", seconds)

    def wait_for_seconds(self, seconds: float) -> None:
        """Let the load go on until so many seconds from now."""
        ends = time.monotonic() + seconds
        self.wait_sent(lambda one: one.began > ends, seconds + DEADLINE)

    def wait_ready(self, port: int) -> None:
        """Wait until the checks have found this port ready; where there is no HAProxy."""
        self._changing.wait_for(lambda: port not in self._front.unready, f"port {port} ready")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more, and wait for every answer."""
        if self._token is not None and self._over is not None:
            self._token.run_sync_soon(self._over.set)
        self._thread.join(TIMEOUT + DEADLINE)
        assert not self._thread.is_alive(), "the load does not end"

    # -- in its thread ------------------------------------------------------------------------------------

    async def _main(self) -> None:
        self._over = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as checks:
            checks.start_soon(self._check)
            async with trio.open_nursery() as requests:
                began = trio.current_time()
                for number in itertools.count():
                    with trio.move_on_at(began + number / self._rate):
                        await self._over.wait()
                    if self._over.is_set():
                        break
                    requests.start_soon(self._send, number)
            checks.cancel_scope.cancel()
        for stream, _ in self._idle:
            stream.socket.close()

    async def _check(self) -> None:
        front = self._front
        while front.admin:
            for port, admin in zip(front.ports, front.admin, strict=True):
                ready = await trio.to_thread.run_sync(is_ready, admin)
                with self._changing:
                    (front.unready.discard if ready else front.unready.add)(port)
            await trio.sleep(CHECK)

    async def _send(self, number: int) -> None:
        project = self._projects[number % len(self._projects)]
        path = f"/{'slow' if number % SLOW_EACH == 0 else 'fast'}/{number}"
        began = time.monotonic()
        status, note = 0, f"no answer within {TIMEOUT:g} s"
        with trio.move_on_after(TIMEOUT):
            status, note = await self._exchange(number, project, path)
        with self._changing:
            self.sent.append(Sent(project, path, status, began, time.monotonic(), note))

    async def _exchange(self, number: int, project: str, path: str) -> tuple[int, str]:
        keep = number % 2 == 0
        connection = self._take() if keep else None
        if connection is None:
            connection = await self._connect(number)
        if connection is None:
            return 0, "nobody took the connection"
        stream, http1 = connection
        kept = False
        try:
            port = stream.socket.getpeername()[1]
            headers = [("Host", f"{project}.localhost:{port}"), ("Content-Length", "2")]
            if not keep:
                headers.append(("Connection", "close"))
            request = h11.Request(method="POST", target=path, headers=headers)
            parts = [http1.send(event) or b"" for event in (request, h11.Data(b"{}"), h11.EndOfMessage())]
            await stream.send_all(b"".join(parts))
            status, body = 0, b""
            while not isinstance(event := http1.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    http1.receive_data(await stream.receive_some(65_536))
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.ConnectionClosed):
                    return 0, f"port {port}: closed without an answer"
            if kept := keep and http1.our_state is h11.DONE and http1.their_state is h11.DONE:
                http1.start_next_cycle()
                self._idle.append((stream, http1))
        except (OSError, trio.BrokenResourceError, h11.RemoteProtocolError) as error:
            return 0, f"{error!r} ({error.__cause__!r})"
        else:
            return status, "" if 200 <= status < 300 else f"port {port}: {body[:300]!r}"
        finally:
            if not kept:
                stream.socket.close()

    def _take(self) -> tuple[trio.SocketStream, h11.Connection] | None:
        """Give an idle connection on which nothing has come, as a good HTTP client does."""
        while self._idle:
            stream, http1 = self._idle.pop()
            if not stream.socket.is_readable():
                return stream, http1
            stream.socket.close()
        return None

    async def _connect(self, number: int) -> tuple[trio.SocketStream, h11.Connection] | None:
        for port in self._front.candidates(number):
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                continue
            return stream, h11.Connection(h11.CLIENT)
        return None


@contextmanager
def steady_load(front: Front, projects: Sequence[str], rate: float) -> Iterator[Load]:
    """Send ``rate`` webhooks a second until the block ends; then every answer is there."""
    load = Load(front, projects, rate)
    load.start()
    try:
        yield load
    finally:
        load.stop()
