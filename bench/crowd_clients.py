"""Up to ten thousand tunnels to one relay in one process, each for a project of its own, answering webhooks.

Run as `python -m bench.crowd_clients` by `bench.crowd`; raw sockets over epoll. Nothing comes back here: a
tunnel that ends, or cannot be opened, is a failure and told as one. They sign their own tunnel tokens with
the cluster's key (in WHOOK_BENCH_KEY), because a project made through the API costs three commits, which is
not what the scenarios measure. Commands on standard input: `open N` opens tunnels up to N in all, `stats`.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from urllib.parse import urlsplit

from bench.load import say
from bench.storm_connection import ANSWERED, CLOSED, READY, Connection
from bench.tunnel import OwnGrants, Talk, introduction, source_of, upgrade

AT_ONCE = 48
"""Tunnels being opened at the same time: the relay always has work, and none waits for long."""


class Tunnel:
    """One tunnel and its number."""

    __slots__ = ("number", "up")

    def __init__(self, number: int) -> None:
        self.number = number
        self.up = False


class Crowd:
    """All tunnels of one process."""

    def __init__(self, args: argparse.Namespace, key: str) -> None:
        relay = urlsplit(args.relay)
        self._where = relay.hostname or "", relay.port or 80
        self._netloc, self._path = relay.netloc, relay.path
        self._grants = OwnGrants(args.relay, key, args.relay_id)
        self._prefix, self._first = args.prefix, args.first
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._begun = self._up = self._wanted = 0
        self._opening = False
        self.failures: list[str] = []

    def run(self) -> None:
        """Go on until standard input ends."""
        commands = sys.stdin.fileno()
        os.set_blocking(commands, False)
        self._epoll.register(commands, select.EPOLLIN)
        while True:
            for fd, _ in self._epoll.poll(-1, 256):
                if fd == commands:
                    if not (told := os.read(fd, 4096)):
                        return
                    for line in told.decode().splitlines():
                        self._obey(line.split())
                elif (connection := self._connections.get(fd)) is not None:
                    self._turn(connection)

    def _obey(self, words: list[str]) -> None:
        if words[0] == "open":
            self._wanted, self._opening = int(words[1]), True
            self._more()
            return
        talks = [c.talk for c in self._connections.values() if c.talk is not None]
        say(
            at="stats",
            open=self._up,
            answered=sum(talk.answered for talk in talks),
            reached=sum(talk.answered > 0 for talk in talks),
            failures=self.failures,
        )

    def _more(self) -> None:
        while self._begun < self._wanted and self._begun - self._up < AT_ONCE and not self.failures:
            self._dial(self._first + self._begun)
            self._begun += 1
        if self._opening and (self.failures or self._up == self._wanted):
            self._opening = False
            say(at="open", open=self._up, failures=self.failures)

    def _dial(self, number: int) -> None:
        grant = self._grants.ask(f"{self._prefix}{number}", f"crowd-{number}")
        request = upgrade(self._netloc, self._path, grant["token"])
        connection = Connection(Tunnel(number), self._where, source_of(number), request)
        self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, select.EPOLLOUT)

    def _turn(self, connection: Connection) -> None:
        tunnel: Tunnel = connection.owner
        try:
            happened = connection.turn()
            if happened == READY:
                self._epoll.modify(connection.fd, select.EPOLLIN)
            elif happened == ANSWERED:
                self._greet(connection)
            elif happened == CLOSED:
                raise ConnectionError("closed by the relay")
            talk = connection.talk
            if talk is not None and (talk.over or talk.goaway):
                raise ConnectionError(talk.over or f"{talk.goaway}")
        except OSError as error:  # also ConnectionError
            self.failures.append(f"tunnel {tunnel.number}: {error}")
            self._connections.pop(connection.fd).sock.close()
            self._up -= tunnel.up
            self._more()
            return
        if talk is not None and talk.greeted and not tunnel.up:
            tunnel.up = True
            self._up += 1
            self._more()

    def _greet(self, connection: Connection) -> None:
        answer = connection.answer
        assert answer is not None
        if answer.status != 101:
            raise ConnectionError(f"refused: {answer.status} {answer.body!r}")
        connection.answer = None
        connection.talk = Talk()
        connection.send(introduction(f"crowd-{connection.owner.number}"))
        connection.feed(answer.rest)


def main() -> None:
    """Open the tunnels and keep them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("relay")
    parser.add_argument("--relay-id", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    crowd = Crowd(args, os.environ["WHOOK_BENCH_KEY"])
    say(at="ready")
    crowd.run()


if __name__ == "__main__":
    main()
