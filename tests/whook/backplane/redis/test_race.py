"""Two processes want one project, hundreds of times: it has one holder at every moment."""

from __future__ import annotations

import random

import trio

from tests.support.claims import LONG, claim, relay
from tests.support.deadlines import DEADLINE
from tests.support.mirror import TOPICS, RouteMirror
from tests.support.redis_server import RedisServer
from whook.backplane.ports import Directory, Route, RouteGone, RouteHeld, RouteSet
from whook.backplane.redis import open_redis_backplane

ROUNDS = 500


async def test_one_holder_at_every_moment(server: RedisServer) -> None:
    held: list[Route] = []
    taken_over: set[int] = set()
    refusals: list[tuple[str, str]] = []

    async def delay(chance: random.Random) -> None:
        for _ in range(chance.randrange(40)):
            await trio.lowlevel.checkpoint()

    async def compete(directory: Directory, name: str) -> None:
        chance = random.Random(name)
        for _ in range(ROUNDS):
            takeover = chance.random() < 0.2
            try:
                route = await claim(directory, by=name, instance=name, takeover=takeover)
            except RouteHeld as refusal:
                refusals.append((name, refusal.route.instance))
                await delay(chance)
                continue
            held.append(route)
            if takeover:
                taken_over.add(route.generation)
            await delay(chance)
            removed = await directory.release(route.project_id, route.generation)
            if not removed:
                # Only a takeover can have ended it.
                current = await directory.route(route.project_id)
                assert current is None or current.generation > route.generation
            await delay(chance)

    async with (
        open_redis_backplane(server.url) as one,
        open_redis_backplane(server.url) as two,
        open_redis_backplane(server.url) as onlooker,
        onlooker.bus.subscribe(*TOPICS) as subscription,
    ):
        await one.directory.announce(relay("one"), LONG)
        await two.directory.announce(relay("two"), LONG)
        mirror = RouteMirror(onlooker, subscription)
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(compete, one.directory, "one")
                nursery.start_soon(compete, two.directory, "two")
        await mirror.catch_up()
        assert set(refusals) == {("one", "two"), ("two", "one")}
        assert {route.instance for route in held} == {"one", "two"}

        holder: Route | None = None
        highest = 0
        for event in mirror.events:
            if isinstance(event, RouteSet):
                assert event.route.generation > highest
                highest = event.route.generation
                assert holder is None or highest in taken_over or holder.instance == event.route.instance
                holder = event.route
            else:
                assert isinstance(event, RouteGone)
                assert holder is not None
                assert holder.generation == event.generation
                holder = None
        assert {event.route.generation for event in mirror.events if isinstance(event, RouteSet)} == {
            route.generation for route in held
        }
        assert await onlooker.directory.route("prj_shop") == holder
