"""Thousands of clients in one process: each keeps a tunnel open and comes back as the CLI does, but cheaply.

Run as `python -m bench.storm_clients` by the `storm` scenario; the access token comes in WHOOK_TOKEN. They
make the CLI's API calls (a connection for each), its WebSocket handshake and introduction on raw sockets over
epoll, and wait as it does: `whook_cli.backoff` and `whook_cli.wayback` are the real ones. Byte n of the state
file is the generation in which tunnel n was opened, 0 while there is none; the prober and the parent read it.
Commands on standard input: `generation N` and `stats`.
"""

from __future__ import annotations

import argparse
import datetime
import heapq
import json
import mmap
import os
import select
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from bench.storm_connection import ANSWERED, BROKEN, CLOSED, READY, Connection
from bench.tunnel import OwnGrants, Talk, introduction, source_of, upgrade
from whook.wire import GoAwayCode
from whook_cli.api import TIMEOUT, Grant, parse_retry_after
from whook_cli.backoff import Backoff
from whook_cli.tunnel import DIAL_TIMEOUT
from whook_cli.wayback import Failure, WayBack, failure_of

FINAL = {GoAwayCode.HELD, GoAwayCode.REPLACED, GoAwayCode.UNAUTHORIZED, GoAwayCode.REVOKED}


class Session:
    """One client: what `whook_cli.session` decides, as a state machine."""

    __slots__ = ("attempt", "backoff", "current", "grant", "number", "opening", "since", "timer", "way")

    def __init__(self, number: int) -> None:
        self.number = number
        self.backoff = Backoff()
        self.way = WayBack()
        self.grant: Grant | None = None
        self.opening: Connection | None = None
        self.current: Connection | None = None
        self.since = 0.0
        self.timer = 0
        self.attempt = ""


class Clients:
    """All sessions of one process."""

    def __init__(self, args: argparse.Namespace, state: mmap.mmap) -> None:
        self._state = state
        self._prefix, self._first, self._resume = args.prefix, args.first, args.resume
        self._apis = [urlsplit(api) for api in args.apis.split(",")]
        self._token = os.environ["WHOOK_TOKEN"]
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._timers: list[tuple[float, int, Session]] = []
        self._serial = 0
        self.generation = 1
        self.counts: Counter[str] = Counter()
        self.came: list[float] = []
        self.final: list[str] = []
        now = time.monotonic()
        relays = [relay.split("=") for relay in args.relays.split(",")] if args.relays else []
        for number in range(args.count):
            session = Session(args.first + number)
            if relays:
                session.way.granted(self._sign(session.number, *relays[number % len(relays)]))
            self._at(now + number / args.rate, session)

    def _sign(self, number: int, relay_id: str, url: str) -> Grant:
        """Make what the API would have given."""
        grants = OwnGrants(url, os.environ["WHOOK_BENCH_KEY"], relay_id)
        grant = grants.ask(f"{self._prefix}{number}", f"storm-{number}")
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        return Grant(grant["websocket_url"], grant["token"], f"prj_{number}", "", ends.isoformat())

    def run(self) -> None:
        """Go on until standard input ends."""
        commands = sys.stdin.fileno()
        os.set_blocking(commands, False)
        self._epoll.register(commands, select.EPOLLIN)
        while True:
            wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1
            for fd, _ in self._epoll.poll(wait, 256):
                if fd == commands:
                    if not (told := os.read(fd, 4096)):
                        return
                    for line in told.decode().splitlines():
                        self._obey(line.split())
                elif (connection := self._connections.get(fd)) is not None:
                    self._turn(connection)
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                _, serial, session = heapq.heappop(self._timers)
                if session.timer == serial:
                    self._due(session)

    def _obey(self, words: list[str]) -> None:
        if words[0] == "generation":
            self.generation = int(words[1])
            self.counts.clear()
            self.came.clear()
            say(at="generation")
        else:
            say(at="stats", counts=dict(self.counts), came=sorted(self.came), final=self.final)

    # -- time ---------------------------------------------------------------------------------------------

    def _at(self, when: float, session: Session) -> None:
        self._serial += 1
        session.timer = self._serial
        heapq.heappush(self._timers, (when, self._serial, session))

    def _due(self, session: Session) -> None:
        if session.opening is not None:
            self.counts[f"{session.attempt} timed out"] += 1
            self._drop(session.opening)
            session.opening = None
            self._failed(session, Failure.SILENT)
            return
        session.timer = 0
        known = self._resume or self.generation == 1  # what was given for the first tunnel counts
        grant = session.way.grant() if known else None
        if grant is not None:
            session.attempt = "resume"
            self._dial(session, grant)
        else:
            self._ask(session)

    def _again(self, session: Session, retry_after: float | None) -> None:
        self._at(time.monotonic() + session.backoff.delay(retry_after), session)

    # -- attempts -----------------------------------------------------------------------------------------

    def _ask(self, session: Session) -> None:
        session.attempt = "api"
        api = self._apis[session.number % len(self._apis)]
        body = json.dumps({"project": f"{self._prefix}{session.number}", "instance": self._instance(session)})
        request = (
            f"POST /v1/tunnels HTTP/1.1\r\nHost: {api.netloc}\r\nAccept: application/json\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        )
        self._open(session, (api.hostname or "", api.port or 80), request.encode(), TIMEOUT)

    def _dial(self, session: Session, grant: Grant) -> None:
        session.grant = grant
        relay = urlsplit(grant.websocket_url)
        request = upgrade(relay.netloc, relay.path, grant.token)
        self._open(session, (relay.hostname or "", relay.port or 80), request, DIAL_TIMEOUT)

    def _open(self, session: Session, where: tuple[str, int], request: bytes, timeout: float) -> None:
        self.counts[f"{session.attempt} attempts"] += 1
        connection = session.opening = Connection(session, where, source_of(session.number), request)
        self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, select.EPOLLOUT)
        self._at(time.monotonic() + timeout, session)

    def _turn(self, connection: Connection) -> None:
        session: Session = connection.owner
        try:
            happened = connection.turn()
        except (OSError, ConnectionError):
            happened = BROKEN
        if happened == READY:
            self._epoll.modify(connection.fd, select.EPOLLIN)
        elif happened == ANSWERED:
            self._answered(session, connection)
        elif happened in (BROKEN, CLOSED):
            self._broken(session, connection)
        if connection.talk is not None and happened not in (BROKEN, CLOSED):
            self._talked(session, connection, connection.talk)

    def _broken(self, session: Session, connection: Connection) -> None:
        self._drop(connection)
        if connection is session.opening:
            session.opening = None
            self.counts[f"{session.attempt} broken"] += 1
            self._failed(session, Failure.REFUSED)
        elif connection is session.current:
            session.current = None
            self._state[session.number] = 0
            if session.opening is None and not session.timer:
                self.counts["lost"] += 1
                self._lost(session, told=False, retry_after=None)

    def _failed(self, session: Session, failure: Failure, retry_after: float | None = None) -> None:
        if session.attempt == "resume":
            if session.way.failed(failure):
                self._ask(session)
                return
        elif session.attempt == "api":
            session.way.unanswered()
        self._again(session, retry_after)

    def _answered(self, session: Session, connection: Connection) -> None:
        answer = connection.answer
        assert answer is not None
        if answer.status == 101:
            connection.talk = Talk()
            connection.send(introduction(f"{self._instance(session)}", "exclusive"))
            connection.feed(answer.rest)
            return
        self._drop(connection)
        session.opening = None
        if session.attempt == "api" and answer.status == 200:
            grant = msgspec.json.decode(answer.body, type=Grant)
            session.way.granted(grant)
            session.attempt = "dial"
            self._dial(session, grant)
            return
        self.counts[f"{session.attempt} {answer.status}"] += 1
        retry_after = parse_retry_after(answer.retry_after)
        self._failed(session, failure_of(answer.status, answer.body), retry_after)

    def _talked(self, session: Session, connection: Connection, talk: Talk) -> None:
        if connection is session.opening:
            if talk.goaway is not None:
                self.counts[f"{session.attempt} goaway {talk.goaway.code}"] += 1
                self._drop(connection)
                session.opening = None
                if talk.goaway.code in FINAL:
                    self.final.append(f"{session.number}: {talk.goaway.message}")
                    session.timer = 0
                else:
                    self._again(session, talk.goaway.retry_after or None)
            elif talk.greeted:
                self._up(session, connection)
        elif (
            connection is session.current
            and talk.goaway is not None
            and session.opening is None
            and not session.timer
        ):
            self.counts["sent away"] += 1
            self._lost(session, told=True, retry_after=talk.goaway.retry_after or None)
        if talk.over:
            self._broken(session, connection)

    def _up(self, session: Session, connection: Connection) -> None:
        if session.current is not None:
            self._drop(session.current)
        session.current, session.opening, session.timer = connection, None, 0
        session.since = time.monotonic()
        self.came.append(session.since)
        self._state[session.number] = self.generation

    def _lost(self, session: Session, *, told: bool, retry_after: float | None) -> None:
        session.backoff.ended(time.monotonic() - session.since)
        session.way.lost(told=told)
        if told:  # it still stands: the new one is opened before it is left
            self._at(time.monotonic() + (retry_after or 0.0), session)
        else:
            self._again(session, retry_after)

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection.fd, None) is not None:
            connection.sock.close()

    def _instance(self, session: Session) -> str:
        return f"storm-{session.number}"


def say(**values: object) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Open the tunnels and keep them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("apis")
    parser.add_argument("--state", required=True)
    parser.add_argument("--prefix", default="storm-")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rate", type=float, default=200.0, help="first attempts in a second")
    parser.add_argument("--relays", default="", help="NAME=URL,…: open the first tunnels there, unasked")
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    with Path(args.state).open("r+b") as file, mmap.mmap(file.fileno(), 0) as state:
        clients = Clients(args, state)
        say(at="ready")
        clients.run()


if __name__ == "__main__":
    main()
