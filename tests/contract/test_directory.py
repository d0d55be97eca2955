"""What every Directory must do. The stateful test beside this one looks for what these do not think of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from tests.support.claims import LONG, claim, reclaim, relay
from tests.support.deadlines import DEADLINE
from tests.support.mirror import TOPICS, RouteMirror
from whook.backplane.ports import (
    TOPIC_RELAYS,
    Backplane,
    Directory,
    LeaseLost,
    RelayGone,
    RelaySet,
    Route,
    RouteGone,
    RouteHeld,
    RouteSet,
    decode_relay_event,
)

SHORT = 0.2
"""A lease that a test waits to end: by the event that says so, never by the clock."""


async def test_a_new_directory_is_empty(directory: Directory) -> None:
    assert await directory.relays() == []
    assert await directory.routes() == []
    assert await directory.route("prj_shop") is None


async def test_announce_says_whether_the_lease_is_new(directory: Directory) -> None:
    assert await directory.announce(relay(), LONG) is False
    assert await directory.announce(relay(load=3), LONG) is True
    assert await directory.relays() == [relay(load=3)]
    await directory.withdraw("r1")
    assert await directory.relays() == []
    assert await directory.announce(relay(), LONG) is False


async def test_leases_say_how_long_they_last(directory: Directory) -> None:
    assert await directory.leases() == []
    await directory.announce(relay(), LONG)
    await directory.announce(relay("r2"), 2 * LONG)
    first, second = sorted(await directory.leases(), key=lambda lease: lease.relay.id)
    assert (first.relay, second.relay) == (relay(), relay("r2"))
    assert 0 < first.left <= LONG < second.left <= 2 * LONG
    await directory.withdraw("r1")
    assert [lease.relay.id for lease in await directory.leases()] == ["r2"]


async def test_a_lease_must_last(directory: Directory) -> None:
    for ttl in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="lease"):
            await directory.announce(relay(), ttl)
    assert await directory.relays() == []


async def test_claim_gives_a_route(directory: Directory) -> None:
    await directory.announce(relay(), LONG)
    route = await claim(directory)
    assert (route.project_id, route.project, route.relay_id) == ("prj_shop", "shop", "r1")
    assert (route.tunnel_id, route.instance, route.holder) == ("tun_laptop", "laptop", "ann@laptop")
    assert await directory.route("prj_shop") == route
    assert await directory.routes() == [route]


async def test_only_an_announced_relay_can_hold(directory: Directory) -> None:
    with pytest.raises(LeaseLost, match="r1"):
        await claim(directory)
    await directory.announce(relay(), LONG)
    route = await claim(directory)
    await directory.withdraw("r1")
    with pytest.raises(LeaseLost):
        await reclaim(directory, route)


async def test_another_instance_is_refused_and_told_who_holds(directory: Directory) -> None:
    await directory.announce(relay(), LONG)
    held = await claim(directory, instance="laptop")
    with pytest.raises(RouteHeld) as refused:
        await claim(directory, instance="desktop")
    assert refused.value.route == held
    assert "ann@laptop" in str(refused.value)
    assert await directory.route("prj_shop") == held


async def test_the_same_instance_replaces_its_ghost_also_elsewhere(directory: Directory) -> None:
    await directory.announce(relay("r1"), LONG)
    await directory.announce(relay("r2"), LONG)
    ghost = await claim(directory, by="r1")
    new = await claim(directory, by="r2")
    assert new.generation > ghost.generation
    assert await directory.routes() == [new]
    assert await directory.release(ghost.project_id, ghost.generation) is False
    await directory.withdraw("r1")
    assert await directory.routes() == [new]


async def test_takeover_fences_the_earlier_holder(directory: Directory) -> None:
    await directory.announce(relay("r1"), LONG)
    await directory.announce(relay("r2"), LONG)
    old = await claim(directory, by="r1", instance="laptop")
    new = await claim(directory, by="r2", instance="desktop", takeover=True)
    assert await directory.release(old.project_id, old.generation) is False
    with pytest.raises(RouteHeld):
        await reclaim(directory, old)
    assert await directory.route("prj_shop") == new


async def test_release_frees_the_project_and_generations_go_on(directory: Directory) -> None:
    await directory.announce(relay(), LONG)
    first = await claim(directory, instance="laptop")
    assert await directory.release("prj_shop", first.generation) is True
    assert await directory.release("prj_shop", first.generation) is False
    second = await claim(directory, instance="desktop")
    assert second.generation > first.generation
    other = await claim(directory, "blog")
    assert other.generation > second.generation


async def test_projects_do_not_touch_one_another(directory: Directory) -> None:
    await directory.announce(relay(), LONG)
    shop, blog = await claim(directory, "shop"), await claim(directory, "blog", instance="desktop")
    assert await directory.release("prj_shop", blog.generation) is False
    assert await directory.release("prj_shop", shop.generation) is True
    assert await directory.routes() == [blog]


async def test_withdraw_takes_the_routes_of_that_relay_only(directory: Directory) -> None:
    await directory.announce(relay("r1"), LONG)
    await directory.announce(relay("r2"), LONG)
    await claim(directory, "shop", by="r1")
    blog = await claim(directory, "blog", by="r2")
    await directory.withdraw("r1")
    await directory.withdraw("never-announced")
    assert await directory.routes() == [blog]
    assert await directory.relays() == [relay("r2")]


async def test_a_route_lost_with_its_lease_can_be_put_back(directory: Directory) -> None:
    await directory.announce(relay(), LONG)
    lost = await claim(directory)
    await directory.withdraw("r1")
    assert await directory.announce(relay(), LONG) is False
    back = await reclaim(directory, lost)
    assert back.generation > lost.generation
    assert replace(back, generation=lost.generation) == lost
    assert await directory.routes() == [back]


async def test_a_route_is_not_put_back_over_the_same_clients_newer_one(directory: Directory) -> None:
    await directory.announce(relay("r1"), LONG)
    await directory.announce(relay("r2"), LONG)
    lost = await claim(directory, by="r1")
    await directory.withdraw("r1")
    newer = await claim(directory, by="r2")
    await directory.announce(relay("r1"), LONG)
    with pytest.raises(RouteHeld):
        await reclaim(directory, lost)
    assert await directory.routes() == [newer]


async def test_changes_are_published_in_their_order(backplane: Backplane) -> None:
    directory = backplane.directory
    async with backplane.bus.subscribe(*TOPICS) as subscription:
        mirror = RouteMirror(backplane, subscription)
        await directory.announce(relay(), LONG)
        first = await claim(directory, instance="laptop")
        second = await claim(directory, instance="desktop", takeover=True)
        await directory.release("prj_shop", first.generation)
        await directory.release("prj_shop", second.generation)
        await mirror.catch_up()
        assert mirror.events == [
            RouteSet(first),
            RouteSet(second),
            RouteGone("prj_shop", second.generation),
        ]


async def test_a_relays_end_is_one_event_that_fences(backplane: Backplane) -> None:
    directory = backplane.directory
    async with backplane.bus.subscribe(*TOPICS) as subscription:
        mirror = RouteMirror(backplane, subscription)
        await directory.announce(relay(), LONG)
        routes = [await claim(directory, f"p{n}") for n in range(20)]
        await directory.withdraw("r1")
        await directory.announce(relay(), LONG)
        back = await reclaim(directory, routes[0])
        await mirror.catch_up()
        [gone] = [event for event in mirror.events if isinstance(event, RelayGone)]
        assert gone.relay_id == "r1"
        assert routes[-1].generation <= gone.generation < back.generation
        assert mirror.routes == {"prj_p0": back}


async def test_relays_are_published_when_there_is_news(backplane: Backplane) -> None:
    directory = backplane.directory
    async with backplane.bus.subscribe(TOPIC_RELAYS) as subscription:
        await directory.announce(relay(), LONG)
        await directory.announce(relay(), LONG)
        await directory.announce(relay(draining=True), LONG)
        await directory.withdraw("r1")
        with trio.fail_after(DEADLINE):
            events = [decode_relay_event((await subscription.__anext__())[1]) for _ in range(3)]
        assert events[:2] == [RelaySet(relay()), RelaySet(relay(draining=True))]
        assert isinstance(events[2], RelayGone)


async def test_an_expired_lease_ends_without_being_asked(backplane: Backplane) -> None:
    directory = backplane.directory
    async with backplane.bus.subscribe(*TOPICS) as subscription:
        mirror = RouteMirror(backplane, subscription)
        await directory.announce(relay("r2"), LONG)
        await directory.announce(relay("r1"), SHORT)
        # On a slow machine the lease may be over before the claim: that is not what this is about.
        try:
            await claim(directory)
        except LeaseLost:
            pytest.skip("the machine is too slow for a lease this short")
        event = await mirror.wait_event()
        while not isinstance(event, RelayGone):
            event = await mirror.wait_event()
        assert event.relay_id == "r1"
        assert mirror.routes == {}
        assert await directory.relays() == [relay("r2")]
        assert await directory.routes() == []
        with pytest.raises(LeaseLost):
            await claim(directory)


async def test_racing_claims_leave_one_holder(backplane: Backplane) -> None:
    directory = backplane.directory
    won: list[Route] = []
    refused: list[RouteHeld] = []

    async def race(instance: str) -> None:
        try:
            won.append(await claim(directory, instance=instance))
        except RouteHeld as held:
            refused.append(held)

    await directory.announce(relay(), LONG)
    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(race, f"laptop{n}")
    assert len(won) == 1
    assert len(refused) == 49
    assert all(held.route == won[0] for held in refused)
    assert await directory.routes() == won


async def test_racing_takeovers_have_distinct_generations(directory: Directory) -> None:
    won: list[Route] = []

    async def race(instance: str) -> None:
        won.append(await claim(directory, instance=instance, takeover=True))

    await directory.announce(relay(), LONG)
    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(race, f"laptop{n}")
    assert len({route.generation for route in won}) == 50
    assert await directory.routes() == [max(won, key=lambda route: route.generation)]
    stale = sorted(route.generation for route in won)[:-1]
    assert [await directory.release("prj_shop", generation) for generation in stale] == [False] * 49
    assert len(await directory.routes()) == 1


async def test_many_lost_routes_are_put_back_by_one_call(directory: Directory) -> None:
    await directory.announce(relay("r1"), LONG)
    await directory.announce(relay("r2"), LONG)
    lost = [await claim(directory, f"p{n}") for n in range(100)]
    await directory.withdraw("r1")
    await directory.announce(relay("r1"), LONG)
    taken = await claim(directory, "p7", by="r2", instance="desktop")
    answers = await directory.reclaim(lost)
    assert isinstance(answers[7], RouteHeld)
    assert answers[7].route == taken
    back = [answer for answer in answers if isinstance(answer, Route)]
    assert [route.project for route in back] == [route.project for route in lost if route.project != "p7"]
    assert len({route.generation for route in back}) == 99
    assert min(route.generation for route in back) > max(taken.generation, lost[-1].generation)
    assert {route.project: route for route in await directory.routes()} == {
        route.project: route for route in [*back, taken]
    }
    assert await directory.reclaim([]) == []


async def test_without_a_lease_none_of_many_is_put_back(directory: Directory) -> None:
    await directory.announce(relay("r1"), LONG)
    lost = [await claim(directory, f"p{n}") for n in range(3)]
    await directory.withdraw("r1")
    with pytest.raises(LeaseLost, match="r1"):
        await directory.reclaim(lost)
    assert await directory.routes() == []
