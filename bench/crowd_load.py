"""Senders for a crowd of tunnels: webhooks to random ones, or one to each, over keep-alive connections.

Run as `python -m bench.crowd_load` by `bench.crowd`. Closed loop: each connection sends its next webhook once
the last is answered. Open loop (`--rate`): webhooks are due at a fixed rate whatever becomes of the earlier
ones, over as many connections as that takes, and a webhook's time counts from when it was due, so that a
stall does not hide what would have come meanwhile ("coordinated omission"). `--each` sends one to every
project and ends. It prints {"at": "start"} after the warm-up and {"at": "end", ...} with what it saw.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from bench.load import LENGTH, quantile, say

PATIENCE = 20.0
"""Seconds after which a webhook without an answer counts as failed."""
MOST = 2_000
"""Connections at most in an open loop; what is due beyond that waits here, and its time runs."""
TOLD = 20
"""Failures that are told in full."""


class Connection:
    """A keep-alive connection and the webhook that is on it."""

    __slots__ = ("buffer", "due", "project", "sock")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.buffer = b""
        self.due = 0.0
        self.project = ""


class Senders:
    """All connections, and what came of their webhooks."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.port: int = args.port
        self._prefix: str = args.prefix
        self._choices = range(args.first, args.first + args.count)
        self._body = b"x" * args.size
        self._epoll = select.epoll()
        self._busy: dict[int, Connection] = {}
        self._idle: dict[int, Connection] = {}
        self._connections = 0
        self._random = random.Random(args.seed)
        self.latencies: list[float] = []
        self.failed = 0
        self.failures: list[str] = []

    def closed(self, connections: int, seconds: float, projects: Iterator[int] | None = None) -> float:
        """Keep so many webhooks under way, for so long or until `projects` are used up."""
        began = time.perf_counter()
        ends = began + seconds
        more = True
        while more or self._busy:
            now = time.perf_counter()
            while more and len(self._busy) < connections:
                number = self._draw() if projects is None else next(projects, None)
                more = number is not None and now < ends
                if number is not None and more:
                    self._begin(number, now)
            if self._busy:
                self._turn(0.5)
        return time.perf_counter() - began

    def open(self, rate: float, seconds: float) -> float:
        """Send at a fixed rate."""
        began = time.perf_counter()
        due: deque[float] = deque()
        sent, whole = 0, round(rate * seconds)
        while sent < whole or due or self._busy:
            now = time.perf_counter()
            while sent < whole and began + sent / rate <= now:
                due.append(began + sent / rate)
                sent += 1
            while due and (self._idle or self._connections < MOST):
                self._begin(self._draw(), due.popleft())
            wait = began + sent / rate - time.perf_counter() if sent < whole else 0.5
            self._turn(max(0.0, wait))
        return time.perf_counter() - began

    def close(self) -> None:
        """Close all connections."""
        for connection in (*self._idle.values(), *self._busy.values()):
            connection.sock.close()
        self._epoll.close()

    def _draw(self) -> int:
        return self._random.choice(self._choices)

    def _begin(self, number: int, due: float) -> None:
        try:
            connection = self._idle.popitem()[1] if self._idle else self._connect()
            connection.due, connection.project = due, f"{self._prefix}{number}"
            head = (
                f"POST /hook HTTP/1.1\r\nHost: {connection.project}.localhost:{self.port}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(self._body)}\r\n\r\n"
            )
            self._busy[connection.sock.fileno()] = connection
            connection.sock.send(head.encode() + self._body)
        except OSError as error:
            self._fail(f"{self._prefix}{number}: {error}")

    def _connect(self) -> Connection:
        connection = Connection(self.port)
        self._connections += 1
        self._epoll.register(connection.sock.fileno(), select.EPOLLIN)
        return connection

    def _turn(self, wait: float) -> None:
        for fd, _ in self._epoll.poll(wait, 256):
            if (connection := self._busy.get(fd)) is not None:
                self._receive(connection)
            else:  # the server has closed an idle one
                self._idle.pop(fd).sock.close()
                self._connections -= 1
        if self._busy:  # in the order in which they were begun: the first is the oldest
            oldest = next(iter(self._busy.values()))
            if oldest.due < time.perf_counter() - PATIENCE:
                self._drop(oldest, f"no answer within {PATIENCE:g} s")

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(connection, f"{error}")
            return
        if not data:
            self._drop(connection, "closed without an answer")
            return
        data = connection.buffer + data
        end = data.find(b"\r\n\r\n")
        found = LENGTH.search(data, 0, end) if end >= 0 else None
        if end < 0 or (found is not None and len(data) < end + 4 + int(found[1])):
            connection.buffer = data
            return
        if not data.startswith(b"HTTP/1.1 200 ") or found is None:
            self._drop(connection, f"unexpected answer {data[:300]!r}")
            return
        self.latencies.append(time.perf_counter() - connection.due)
        connection.buffer = b""
        self._idle[connection.sock.fileno()] = self._busy.pop(connection.sock.fileno())

    def _drop(self, connection: Connection, why: str) -> None:
        self._fail(f"{connection.project}: {why}")
        del self._busy[connection.sock.fileno()]
        connection.sock.close()
        self._connections -= 1

    def _fail(self, what: str) -> None:
        self.failed += 1
        if len(self.failures) < TOLD:
            self.failures.append(what)


def main() -> None:
    """Warm up, measure once, tell, end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--warm-up", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latencies", type=Path, help="write all of them there, in milliseconds")
    args = parser.parse_args()
    senders = Senders(args)
    if args.warm_up and not args.each:
        if args.rate:
            senders.open(args.rate, args.warm_up)
        else:
            senders.closed(args.connections, args.warm_up)
        senders.latencies.clear()
    say(at="start", failures=senders.failures)
    if args.each:
        every = iter(range(args.first, args.first + args.count))
        seconds = senders.closed(args.connections, 600.0, every)
    elif args.rate:
        seconds = senders.open(args.rate, args.seconds)
    else:
        seconds = senders.closed(args.connections, args.seconds)
    ordered = sorted(senders.latencies)
    if args.latencies is not None:
        args.latencies.write_text(json.dumps([round(one * 1000, 4) for one in ordered]))
    say(
        at="end",
        seconds=seconds,
        requests=len(ordered),
        failed=senders.failed,
        failures=senders.failures,
        p50_ms=quantile(ordered, 0.5),
        p99_ms=quantile(ordered, 0.99),
        p999_ms=quantile(ordered, 0.999),
        max_ms=quantile(ordered, 1.0),
    )


if __name__ == "__main__":
    main()
