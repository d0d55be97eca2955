"""Any sequence of calls on a Directory, compared with a model, and with a mirror that follows its events.

What must hold whatever happens: a project has one holder at most; a route hangs on a live lease; generations
only grow; a stale release or reclaim never harms a newer claim; and the events alone tell the whole table.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from trio.testing import MockClock

from tests.support.claims import reclaim
from tests.support.deadlines import DEADLINE
from tests.support.mirror import TOPICS, RouteMirror
from tests.support.twins import BACKPLANES, BackplaneTwin
from whook.backplane.ports import Backplane, LeaseLost, RelayInfo, Route, RouteHeld

RELAYS = st.sampled_from(["r1", "r2", "r3"])
PROJECTS = st.sampled_from(["shop", "blog"])
INSTANCES = st.sampled_from(["laptop", "desktop"])
TTLS = st.sampled_from([5.0, 15.0])

T = TypeVar("T")


class Portal:
    """A Trio loop in a thread, with an open twin, that a synchronous test drives call by call."""

    def __init__(self, twin: BackplaneTwin) -> None:
        self._twin = twin
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._main, daemon=True)
        self.clock = MockClock() if twin.follows_trio_clock else None
        self.mirror: RouteMirror
        self.backplane: Backplane
        self._thread.start()
        assert self._opened.wait(DEADLINE)

    def _main(self) -> None:
        trio.run(self._hold_open, clock=self.clock)

    async def _hold_open(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._closing = trio.Event()
        async with self._twin.open() as self.backplane, self.backplane.bus.subscribe(*TOPICS) as subscription:
            self.mirror = RouteMirror(self.backplane, subscription)
            self._opened.set()
            await self._closing.wait()

    def call(self, function: Callable[..., Awaitable[T]], *args: Any, **named: Any) -> T:
        async def run() -> T:
            return await function(*args, **named)

        return trio.from_thread.run(run, trio_token=self._token)

    def jump(self, seconds: float) -> None:
        assert self.clock is not None
        trio.from_thread.run_sync(self.clock.jump, seconds, trio_token=self._token)

    def close(self) -> None:
        trio.from_thread.run_sync(self._closing.set, trio_token=self._token)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


class DirectoryMachine(RuleBasedStateMachine):
    """The model: leases with their end, routes by project, and the highest generation."""

    twin: BackplaneTwin
    claimed: Bundle[Route] = Bundle("claimed")

    def __init__(self) -> None:
        super().__init__()
        self.portal = Portal(self.twin)
        self.directory = self.portal.backplane.directory
        self.now = 0.0
        self.leases: dict[str, float] = {}
        self.routes: dict[str, Route] = {}
        self.highest = 0

    def teardown(self) -> None:
        self.portal.close()

    def end(self, relay_id: str) -> None:
        self.leases.pop(relay_id, None)
        self.routes = {key: route for key, route in self.routes.items() if route.relay_id != relay_id}

    def hold(self, route: Route) -> Route:
        assert route.generation > self.highest
        self.highest = route.generation
        self.routes[route.project_id] = route
        return route

    @rule(relay_id=RELAYS, ttl=TTLS, load=st.integers(0, 2))
    def announce(self, relay_id: str, ttl: float, load: int) -> None:
        relay = RelayInfo(id=relay_id, tunnel_url="", trunk_url="", capacity=9, load=load, version="1")
        assert self.portal.call(self.directory.announce, relay, ttl) == (relay_id in self.leases)
        self.leases[relay_id] = self.now + ttl

    @rule(relay_id=RELAYS)
    def withdraw(self, relay_id: str) -> None:
        self.portal.call(self.directory.withdraw, relay_id)
        self.end(relay_id)

    @precondition(lambda self: self.twin.follows_trio_clock)
    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.portal.jump(seconds)
        self.now += seconds
        for relay_id in [key for key, end in self.leases.items() if end <= self.now]:
            self.end(relay_id)

    @rule(target=claimed, project=PROJECTS, relay_id=RELAYS, instance=INSTANCES, takeover=st.booleans())
    def claim(self, project: str, relay_id: str, instance: str, takeover: bool) -> Route:
        wanted = Route(
            project_id=f"prj_{project}",
            project=project,
            relay_id=relay_id,
            tunnel_id=f"tun_{self.highest}",
            generation=0,
            instance=instance,
            holder=instance,
        )
        held = self.routes.get(wanted.project_id)
        try:
            route = self.portal.call(
                self.directory.claim,
                project_id=wanted.project_id,
                project=wanted.project,
                relay_id=relay_id,
                tunnel_id=wanted.tunnel_id,
                instance=instance,
                holder=wanted.holder,
                takeover=takeover,
            )
        except LeaseLost:
            assert relay_id not in self.leases
            return wanted
        except RouteHeld as error:
            refused = error
        else:
            assert relay_id in self.leases
            assert held is None or held.instance == instance or takeover
            assert route == replace(wanted, generation=route.generation)
            return self.hold(route)
        assert held is not None
        assert refused.route == held
        assert held.instance != instance
        assert not takeover
        return held

    @rule(target=claimed, route=claimed)
    def reclaim(self, route: Route) -> Route:
        held = self.routes.get(route.project_id)
        try:
            back = self.portal.call(reclaim, self.directory, route)
        except LeaseLost:
            assert route.relay_id not in self.leases
            return route
        except RouteHeld as error:
            refused = error
        else:
            assert route.relay_id in self.leases
            assert held is None or held.generation <= route.generation
            return self.hold(back)
        assert held is not None
        assert refused.route == held
        assert held.generation > route.generation
        return route

    @rule(route=claimed)
    def release(self, route: Route) -> None:
        held = self.routes.get(route.project_id)
        current = held is not None and held.generation == route.generation
        assert self.portal.call(self.directory.release, route.project_id, route.generation) == current
        if current:
            del self.routes[route.project_id]

    @invariant()
    def directory_is_as_the_model(self) -> None:
        routes = self.portal.call(self.directory.routes)
        assert len(routes) == len({route.project_id for route in routes})
        assert {route.project_id: route for route in routes} == self.routes
        assert {relay.id for relay in self.portal.call(self.directory.relays)} == set(self.leases)
        for project_id in ("prj_shop", "prj_blog"):
            assert self.portal.call(self.directory.route, project_id) == self.routes.get(project_id)

    @invariant()
    def mirror_is_as_the_model(self) -> None:
        self.portal.call(self.portal.mirror.catch_up)
        assert self.portal.mirror.routes == self.routes


@pytest.mark.parametrize("twin", BACKPLANES, ids=lambda twin: twin.name)
def test_any_sequence_of_calls(twin: BackplaneTwin) -> None:
    machine = type("Machine", (DirectoryMachine,), {"twin": twin})
    quick = settings(
        max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(machine, settings=quick)
