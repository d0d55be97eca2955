"""Two clients race for one project, again and again: one holder at every moment, and the route points at it.

Over the real cluster, with the sessions of `whook connect` in this process. Each comes after a random pause,
some with --takeover; the winner leaves in order or breaks off. What happened is read from the bus, which
every conductor follows, and asked for by webhooks through each of them. The sizes: `tests.support.site`.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.load import Sent, send
from tests.support.site import RACES, Site
from whook.backplane.ports import (
    TOPIC_ROUTES,
    Backplane,
    RelayGone,
    Route,
    RouteGone,
    RouteSet,
    Subscription,
    decode_route_event,
)
from whook.backplane.redis import open_redis_backplane
from whook.wire import Mode
from whook_cli.display import Display
from whook_cli.exits import Exit, ExitCode
from whook_cli.handler import Handler
from whook_cli.records import Record, StatusRecord
from whook_cli.respond import Responder
from whook_cli.session import Plan, Session
from whook_cli.stop import Stop
from whook_cli.tunnel import Client

pytestmark = pytest.mark.timeout(600)
PROJECT = "raced"
LONGEST_PAUSE = 0.06
"""Seconds: about what a client takes to come up, so that either may be first at any step."""
LOSSES = {ExitCode.HELD, ExitCode.REPLACED}


class Silent(Display):
    """A display that tells what the session says of its tunnel."""

    def __init__(self, racer: Racer) -> None:
        super().__init__(lambda _: [])
        self._racer = racer

    def show(self, record: Record) -> None:
        if isinstance(record, StatusRecord) and record.event == "ready":
            self._racer.up = True
            self._racer.news.set()


@dataclass
class Racer:
    """One client of one race. It answers webhooks with its own name."""

    name: str
    mode: Mode
    news: trio.Event
    instance: str = field(default_factory=lambda: f"cli_{os.urandom(12).hex()}")
    up: bool = False
    over: bool = False
    ending: Exit | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stop: Stop = field(default_factory=Stop)

    async def run(self, site: Site, pause: float) -> None:
        await trio.sleep(pause)
        display = Silent(self)
        client = Client("whook/racer", self.instance, f"{self.name}@races", 16)
        plan = Plan(
            site.cluster.api(), site.cluster.token, PROJECT, self.mode, "here", None, 5.0, client
        )  # fmt: skip
        handler = Handler(display, Responder(200, self.name.encode(), b"text/plain"), verbose=False)
        with self.scope:
            self.ending = await Session(plan, handler, display, self.stop).run()
        self.over = True
        self.news.set()


@dataclass
class Ledger:
    """Every change of the project's route, as the bus tells it, checked one by one."""

    holder: Route | None = None
    generation: int = 0
    news: trio.Event = field(default_factory=trio.Event)
    racers: dict[str, Racer] = field(default_factory=dict)
    """By instance."""
    taken: Counter[str] = field(default_factory=Counter)

    async def follow(self, subscription: Subscription) -> None:
        async for _, message in subscription:
            event = decode_route_event(message)
            if isinstance(event, RouteSet) and event.route.project == PROJECT:
                self._set(event.route)
            elif isinstance(event, RouteGone) and self.holder and event.project_id == self.holder.project_id:
                assert event.generation == self.holder.generation, "a stale relay removed a newer route"
                self.holder = None
            elif isinstance(event, RelayGone):
                raise AssertionError(f"{event.relay_id} went during the races")
            self.news.set()
            self.news = trio.Event()

    def _set(self, route: Route) -> None:
        assert route.generation > self.generation, "a stale claim overwrote a newer one"
        if self.holder is not None and self.holder.instance != route.instance:
            assert self.racers[route.instance].mode == "takeover", "a holder was replaced by one who may not"
            self.taken["taken over"] += 1
        self.generation = route.generation
        self.holder = route

    async def wait_free(self) -> None:
        """Wait until nobody holds the project."""
        while self.holder is not None:
            await self.news.wait()


@asynccontextmanager
async def ledger(backplane: Backplane) -> AsyncGenerator[Ledger]:
    """Follow the project's route while the block runs."""
    async with backplane.bus.subscribe(TOPIC_ROUTES) as subscription, trio.open_nursery() as nursery:
        found = Ledger()
        nursery.start_soon(found.follow, subscription)
        yield found
        nursery.cancel_scope.cancel()


async def _webhook(port: int, path: str) -> Sent:
    return await trio.to_thread.run_sync(partial(send, [port], PROJECT, path))


async def _settled(racers: list[Racer]) -> tuple[Racer, Racer]:
    """Wait until one has lost and the other has the tunnel; give winner and loser."""
    with trio.fail_after(DEADLINE):
        while True:
            news = trio.Event()
            for racer in racers:
                racer.news = news
            lost = [racer for racer in racers if racer.over]
            won = [racer for racer in racers if racer.up and not racer.over]
            if lost and won:
                return won[0], lost[0]
            assert len(lost) < 2, f"nobody holds it: {[(r.name, r.mode, r.ending) for r in racers]}"
            await news.wait()


async def _race(number: int, site: Site, backplane: Backplane, book: Ledger, rng: random.Random) -> str:
    news = trio.Event()
    racers = [
        Racer(name, "takeover" if rng.random() < 0.4 else "exclusive", news)
        for name in (f"a{number}", f"b{number}")
    ]
    book.racers = {racer.instance: racer for racer in racers}
    async with trio.open_nursery() as nursery:
        for racer in racers:
            nursery.start_soon(racer.run, site, rng.uniform(0, LONGEST_PAUSE))
        winner, loser = await _settled(racers)
        assert loser.ending is not None
        assert loser.ending.code in LOSSES, loser.ending
        assert book.holder is not None
        route = await backplane.directory.route(book.holder.project_id)
        assert route is not None
        assert route.instance == winner.instance, "the route points at the loser"
        # Whatever a conductor knows by now, its webhook ends at the holder.
        answers: list[Sent] = []

        async def ask(port: int) -> None:
            answers.append(await _webhook(port, f"/race/{number}"))

        async with trio.open_nursery() as senders:
            for port in site.cluster.ingress:
                senders.start_soon(ask, port)
        assert [(one.status, one.note) for one in answers] == [(200, winner.name)] * len(answers)
        if leaves := rng.random() < 0.7:
            winner.stop.begin("the race is over")
        else:
            winner.scope.cancel(reason="broke off")
    with trio.fail_after(DEADLINE):
        await book.wait_free()
    return f"{loser.ending.code.name.lower()}, {'left' if leaves else 'broke off'}"


async def test_two_clients_race_for_one_project(site: Site) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    begun = time.monotonic()
    number = 0
    async with open_redis_backplane(site.cluster.redis.url) as backplane, ledger(backplane) as book:
        try:
            for number in range(RACES):
                outcomes[await _race(number, site, backplane, book, rng)] += 1
        except BaseException as error:
            error.add_note(f"race {number} with seed {seed}; logs in {site.folder}")
            raise
    print(f"\n{RACES} races in {time.monotonic() - begun:.0f} s: {dict(outcomes)}, {dict(book.taken)}")
