"""Where tunnels go: even spread, room respected, watchers beside the holder."""

from __future__ import annotations

import random

from whook.backplane.ports import RelayInfo, Route
from whook_conductor.placement import SETTLE_SECONDS, Placement


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def relay(name: str, *, load: int = 0, capacity: int = 1_000, draining: bool = False) -> RelayInfo:
    return RelayInfo(
        id=name,
        tunnel_url=f"ws://{name}",
        trunk_url=f"tcp://{name}:1",
        capacity=capacity,
        load=load,
        version="1",
        draining=draining,
    )


def placement(*relays: RelayInfo, clock: Clock | None = None, seed: int = 1) -> Placement:
    made = Placement(clock or Clock(), random.Random(seed))
    made.update(relays)
    return made


def test_a_relay_that_does_not_answer_gets_nothing() -> None:
    answering = {"a"}
    made = Placement(Clock(), random.Random(1), reachable=answering.__contains__)
    made.update([relay("a", load=900), relay("b")])
    assert {chosen.id for _ in range(20) if (chosen := made.choose()) is not None} == {"a"}
    assert made.has_room
    answering.clear()
    assert made.choose() is None
    assert not made.has_room
    assert made.choose(holder="b") is not None  # an onlooker has no choice, and may find it back


def test_nothing_to_choose_from() -> None:
    assert placement().choose() is None


def test_draining_and_full_relays_are_skipped() -> None:
    chooser = placement(
        relay("a", draining=True), relay("b", load=10, capacity=10), relay("c", load=9, capacity=10)
    )
    assert chooser.choose() is not None
    assert chooser.choose() is None, "the last place of c was assigned just now"


def test_a_relay_without_capacity_is_never_chosen() -> None:
    assert placement(relay("a", capacity=0)).choose() is None


def test_load_counts_relative_to_capacity() -> None:
    chooser = placement(relay("small", load=50, capacity=100), relay("large", load=100, capacity=1_000))
    chosen = chooser.choose()
    assert chosen is not None
    assert chosen.id == "large"


def test_two_hundred_tunnels_spread_within_a_tenth_of_even_without_a_report_between() -> None:
    for seed in range(50):
        chooser = placement(relay("a"), relay("b"), relay("c"), seed=seed)
        counts = {"a": 0, "b": 0, "c": 0}
        for _ in range(200):
            chosen = chooser.choose()
            assert chosen is not None
            counts[chosen.id] += 1
        assert all(60 <= count <= 73 for count in counts.values()), counts


def test_assignments_count_until_the_report_can_hold_them() -> None:
    clock = Clock()
    chooser = placement(relay("a", capacity=1), clock=clock)
    assert chooser.choose() is not None
    chooser.update([relay("a", capacity=1)])
    assert chooser.choose() is None, "reported too soon to hold the new tunnel"
    clock.now += SETTLE_SECONDS
    chooser.update([relay("a", capacity=1)])
    assert chooser.choose() is not None, "the tunnel never came, its place is free again"


def test_a_watcher_goes_to_the_holders_relay_even_if_it_drains() -> None:
    chooser = placement(relay("a"), relay("b", load=500, draining=True))
    chosen = chooser.choose(holder="b")
    assert chosen is not None
    assert chosen.id == "b"


def test_a_watcher_of_a_vanished_or_full_relay_gets_none() -> None:
    chooser = placement(relay("a"), relay("b", load=1, capacity=1))
    assert chooser.choose(holder="gone") is None
    assert chooser.choose(holder="b") is None


def test_a_relay_that_went_is_forgotten() -> None:
    chooser = placement(relay("a"), relay("b"))
    chooser.update([relay("b")])
    assert [r.id for r in chooser.relays] == ["b"]
    chosen = chooser.choose()
    assert chosen is not None
    assert chosen.id == "b"


def landed(project: str, relay_id: str) -> Route:
    return Route(
        project_id=f"prj_{project}",
        project=project,
        relay_id=relay_id,
        tunnel_id="tun",
        generation=1,
        instance="i",
        holder="ada",
    )


def test_routes_count_from_the_moment_they_are_known() -> None:
    """Also those that other conductors have assigned: the report is up to a heartbeat old."""
    routes = {"a": 5, "b": 5}
    chooser = Placement(Clock(), random.Random(1), held=routes.__getitem__)
    chooser.update([relay("a", load=5), relay("b", load=5)])
    routes["a"] += 3
    for _ in range(3):
        chooser.update([relay("a", load=5), relay("b", load=5)])  # the same report, read again
        chosen = chooser.choose()
        assert chosen is not None
        assert chosen.id == "b"
    chooser.update([relay("a", load=8), relay("b", load=8)])
    routes["b"] += 20
    chosen = chooser.choose()
    assert chosen is not None
    assert chosen.id == "a", "the new report holds the three of a"


def test_a_tunnel_counts_once() -> None:
    """As assigned until it has a route, then as a route; and at one relay, however often it comes."""
    routes = {"a": 0}
    chooser = Placement(Clock(), held=routes.__getitem__)
    chooser.update([relay("a", capacity=2)])
    assert chooser.choose("shop") is not None
    assert chooser.choose("shop") is not None
    routes["a"] = 1
    chooser.landed(landed("shop", "a"))
    assert chooser.choose("blog") is not None
    assert chooser.choose("wiki") is None
