"""The senders of a storm: webhooks at a steady rate to tunnels that are up, each on a connection of its own.

Run as `python -m bench.storm_probe` by the `storm` scenario. A webhook's time counts from the moment at which
it was due, not from when it could be sent, so that a stall does not hide what would have come meanwhile
("coordinated omission"). It picks tunnels whose byte in the state file is the current generation; bystanders,
which no storm touches, are picked in turn with them. Commands on standard input: `generation N` and `stats`.
"""

from __future__ import annotations

import argparse
import mmap
import random
import select
import sys
import time
from pathlib import Path

from bench.load import quantile, say
from bench.storm_connection import ANSWERED, BROKEN, CLOSED, READY, Connection

PATIENCE = 20.0
"""Seconds after which a webhook without an answer counts as lost."""


class Webhook:
    """One webhook under way."""

    __slots__ = ("due", "kind", "project")

    def __init__(self, due: float, kind: str, project: str) -> None:
        self.due, self.kind, self.project = due, kind, project


class Probe:
    """All webhooks, and what became of them."""

    def __init__(self, args: argparse.Namespace, state: mmap.mmap) -> None:
        self._ports = [int(port) for port in args.ports.split(",")]
        self._prefix, self._storm, self._all = args.prefix, args.storm, len(state)
        self._state = state
        self._pause = 1 / args.rate
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._turn = 0
        self.generation = 1
        self.times: dict[str, list[float]] = {"back": [], "bystander": []}
        self.failures: list[str] = []

    def run(self) -> None:
        """Go on until standard input ends."""
        commands = sys.stdin.fileno()
        self._epoll.register(commands, select.EPOLLIN)
        due = time.monotonic()
        while True:
            for fd, _ in self._epoll.poll(max(0.0, due - time.monotonic())):
                if fd == commands:
                    if not (line := sys.stdin.readline()):
                        return
                    self._obey(line.split())
                elif (connection := self._connections.get(fd)) is not None:
                    self._advance(connection)
            while due <= time.monotonic():
                self._send(due)
                due += self._pause
            self._give_up(time.monotonic() - PATIENCE)

    def _obey(self, words: list[str]) -> None:
        if words[0] == "generation":
            self.generation = int(words[1])
            for times in self.times.values():
                times.clear()
            self.failures.clear()
            say(at="generation")
            return
        found: dict[str, object] = {}
        for kind, times in self.times.items():
            ordered = sorted(times)
            found[kind] = {
                "answered": len(ordered),
                "p50_ms": quantile(ordered, 0.5),
                "p99_ms": quantile(ordered, 0.99),
                "max_ms": quantile(ordered, 1.0),
            }
        say(at="stats", failures=self.failures, **found)

    def _send(self, due: float) -> None:
        self._turn += 1
        bystanders = range(self._storm, self._all)
        if self._turn % 2 and bystanders:
            number = random.choice(bystanders)
            if self._state[number]:
                self._begin(due, "bystander", number)
            return
        for _ in range(50):
            number = random.randrange(self._storm)
            if self._state[number] == self.generation:
                self._begin(due, "back", number)
                return

    def _begin(self, due: float, kind: str, number: int) -> None:
        port = self._ports[self._turn // 2 % len(self._ports)]
        project = f"{self._prefix}{number}"
        request = (
            f"POST /storm HTTP/1.1\r\nHost: {project}.localhost:{port}\r\nConnection: close\r\n"
            "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
        webhook = Webhook(due, kind, project)
        connection = Connection(webhook, ("127.0.0.1", port), "127.0.0.1", request.encode())
        self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, select.EPOLLOUT)

    def _advance(self, connection: Connection) -> None:
        webhook: Webhook = connection.owner
        try:
            happened = connection.turn()
        except OSError as error:
            self.failures.append(f"{webhook.kind} {webhook.project}: {error}")
            happened = BROKEN
        if happened == READY:
            self._epoll.modify(connection.fd, select.EPOLLIN)
        elif happened == ANSWERED:
            assert connection.answer is not None
            if connection.answer.status == 200:
                self.times[webhook.kind].append(time.monotonic() - webhook.due)
            else:
                said = connection.answer.body[:200].decode(errors="replace")
                self.failures.append(f"{webhook.kind} {webhook.project}: {connection.answer.status} {said}")
        elif happened == CLOSED:
            self.failures.append(f"{webhook.kind} {webhook.project}: closed without an answer")
        if happened in (ANSWERED, CLOSED, BROKEN):
            self._connections.pop(connection.fd).sock.close()

    def _give_up(self, before: float) -> None:
        # In the order of their due times, so the first is the oldest.
        while self._connections:
            connection = next(iter(self._connections.values()))
            webhook: Webhook = connection.owner
            if webhook.due > before:
                return
            self.failures.append(f"{webhook.kind} {webhook.project}: no answer within {PATIENCE:g} s")
            self._connections.pop(connection.fd).sock.close()


def main() -> None:
    """Send until the parent ends this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ports")
    parser.add_argument("--state", required=True)
    parser.add_argument("--prefix", default="storm-")
    parser.add_argument("--storm", type=int, required=True, help="tunnels that the storm is about")
    parser.add_argument("--rate", type=float, default=40.0)
    args = parser.parse_args()
    with Path(args.state).open("r+b") as file, mmap.mmap(file.fileno(), 0) as state:
        probe = Probe(args, state)
        say(at="ready")
        probe.run()


if __name__ == "__main__":
    main()
