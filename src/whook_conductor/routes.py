"""Who holds which project, in memory, so that a request finds its route without waiting.

Owns the route table and the task that keeps it true: a snapshot of the directory, then the bus. Read by the
ingress for every request; written by the sync task, and by the resolver when a route turned out wrong. A
look-up must never do I/O.

Generations fence: an older claim never overwrites a newer one, and what is gone takes only older ones along.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable
from typing import Final
from weakref import WeakValueDictionary

import structlog
import trio

from whook.backplane.ports import (
    TOPIC_ROUTES,
    Bus,
    BusGap,
    Directory,
    Recovering,
    Route,
    RouteEvent,
    RouteGone,
    RouteSet,
    Unavailable,
    decode_route_event,
)
from whook.chassis.readiness import Degraded
from whook_conductor.retry import Retry

_MAX_TOMBSTONES: Final = 16_384
"""Ended generations remembered, so that a late announcement of one is known for what it is. When there are
more they are all forgotten: the worst case is one request that is re-resolved."""

_LEFT_LATELY: Final = 30.0
"""Seconds after the loss of a route in which its client most probably comes back."""
_ASK_AGAIN: Final = 0.25
"""Seconds between two questions for one project that is not back yet."""
_MAX_LEFT: Final = 65_536
"""Projects remembered as lost; when there are more they are all forgotten."""
RELOAD_SECONDS: Final = 1.0
"""How long reading the snapshot after a gap may make the conductor unready. It takes milliseconds; when it
takes longer the directory is out of reach, hence for every conductor, and each serves on."""

_log = structlog.get_logger("whook.conductor.routes")


class RouteTable:
    """Every live route by the name of its project."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        """By name: until when a project counts as lately lost, and when to ask for it next."""
        self._by_name: dict[str, Route] = {}
        self._by_relay: dict[str, set[str]] = {}
        self._names: dict[str, str] = {}
        self._ended: dict[str, int] = {}
        self._news: WeakValueDictionary[str, trio.Event] = WeakValueDictionary()
        self.on_route: list[Callable[[Route], None]] = []
        """Each is called with every route that comes into the table."""
        self.ready = False
        """Whether the table follows the directory. When not, its routes are still the best guess."""
        self.loaded = trio.Event()
        """A snapshot has been read at least once."""
        self.outage = ""
        """Why the directory cannot be read; empty while it can be, or nobody has tried."""
        self.cut_off = False
        """The directory is out of reach: nobody can claim a project."""
        self._behind_since = 0.0

    def __len__(self) -> int:
        return len(self._by_name)

    def lookup(self, project: str) -> Route | None:
        """Return the route of the project of this name."""
        return self._by_name.get(project)

    def worth_asking(self, project: str) -> bool:
        """Return whether the directory may know more of a project that has no route here.

        A client that has lost its relay is back as soon as the directory says so, and the bus may tell us a
        moment later: in a storm of reconnects, a second later. After `not_back` it says no for a while.
        """
        until, ask = self._left.get(project, (0.0, 0.0))
        now = self._clock()
        if now >= until:
            self._left.pop(project, None)
            return False
        return now >= ask

    def not_back(self, project: str) -> None:
        """Take note that the directory has no route of the project either."""
        known = self._left.get(project)
        if known is not None:
            self._left[project] = known[0], self._clock() + _ASK_AGAIN

    def count(self, relay_id: str) -> int:
        """Return how many routes lead to this relay."""
        return len(self._by_relay.get(relay_id, ()))

    def news(self, project: str) -> trio.Event:
        """Return the event that is set when the next route of this project is known."""
        event = self._news.get(project)
        if event is None:
            self._news[project] = event = trio.Event()
        return event

    def of(self, project_id: str) -> Route | None:
        """Return the route of the project of this id."""
        name = self._names.get(project_id)
        return None if name is None else self._by_name[name]

    def of_tunnel(self, tunnel_id: str) -> Route | None:
        """Return the route that a tunnel holds. Looks through all of them: 2 ms for 50,000."""
        return next((route for route in self._by_name.values() if route.tunnel_id == tunnel_id), None)

    def page(self, *, project: str | None, relay_id: str | None, after: str, limit: int) -> list[Route]:
        """Return routes by the names of their projects, from behind `after`. Looks through all of them."""
        names: Iterable[str] = self._by_name
        if project is not None:
            names = [project] if project in self._by_name else []
        if relay_id is not None:
            names = [name for name in names if self._by_name[name].relay_id == relay_id]
        chosen = heapq.nsmallest(limit, (name for name in names if name > after))
        return [self._by_name[name] for name in chosen]

    def replace(self, routes: Iterable[Route]) -> None:
        """Take a snapshot of the directory instead of everything known."""
        self._by_name = {}
        self._by_relay = {}
        self._names = {}
        self._ended = {}
        for route in routes:
            self._put(route)
        self.ready = True
        self.outage = ""
        self.cut_off = False
        self.loaded.set()

    def fall_behind(self) -> None:
        """Note that something may have been missed: what is known is the best guess until `replace`."""
        if self.ready:
            self.ready = False
            self._behind_since = trio.current_time()

    def check(self) -> str | Degraded | None:
        """Tell what is missing for readiness.

        Unready before the first snapshot and while a new one is being read: other conductors are not.
        Degraded while the directory cannot be read: neither can the others, and known routes go on working.
        """
        if self.ready:
            return None
        if not self.loaded.is_set():
            return f"no routes yet: {self.outage or 'reading them from the directory'}"
        if self.outage:
            return Degraded(f"serving the routes that are known: {self.outage}")
        if trio.current_time() - self._behind_since > RELOAD_SECONDS:
            return Degraded("serving the routes that are known: the directory does not answer")
        return "reading the routes again after a gap in the bus"

    def apply(self, event: RouteEvent) -> None:
        """Take one event from the bus."""
        if isinstance(event, RouteSet):
            self.learn(event.route)
        elif isinstance(event, RouteGone):
            self.forget(event.project_id, event.generation)
        else:
            for project_id in list(self._by_relay.get(event.relay_id, ())):
                self._drop(project_id, event.generation)
            self._note_end(event.relay_id, event.generation)

    def learn(self, route: Route) -> None:
        """Take a route, unless a newer claim of its project is known or its own has ended already."""
        ended = self._ended
        if route.generation <= max(ended.get(route.project_id, 0), ended.get(route.relay_id, 0)):
            return
        known = self._by_name.get(route.project)
        if known is None or known.generation < route.generation:
            self._drop(route.project_id, route.generation)
            self._put(route)

    def forget(self, project_id: str, generation: int) -> None:
        """Take away the project's route if it is of this generation or an earlier one."""
        self._drop(project_id, generation)
        self._note_end(project_id, generation)

    def _put(self, route: Route) -> None:
        self._left.pop(route.project, None)
        self._by_name[route.project] = route
        self._names[route.project_id] = route.project
        self._by_relay.setdefault(route.relay_id, set()).add(route.project_id)
        for tell in self.on_route:
            tell(route)
        if self._news and (event := self._news.pop(route.project, None)) is not None:
            event.set()

    def _drop(self, project_id: str, generation: int) -> None:
        name = self._names.get(project_id)
        if name is None or self._by_name[name].generation > generation:
            return
        held = self._by_relay[self._by_name[name].relay_id]
        held.discard(project_id)
        if not held:
            del self._by_relay[self._by_name[name].relay_id]
        del self._by_name[name]
        del self._names[project_id]
        if len(self._left) >= _MAX_LEFT:
            self._left.clear()
        self._left[name] = self._clock() + _LEFT_LATELY, 0.0

    def _note_end(self, of: str, generation: int) -> None:
        if len(self._ended) >= _MAX_TOMBSTONES:
            self._ended.clear()
        self._ended[of] = max(generation, self._ended.get(of, 0))


async def sync_routes(
    table: RouteTable,
    directory: Directory,
    bus: Bus,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep `table` true, for ever; started once it is for the first time.

    A gap in the bus, or a directory that cannot be read, leaves the table behind until a new snapshot has
    been read. The old routes go on being used meanwhile: most are still right, and a wrong one is found out
    by the relay.
    """
    started = False
    retry = Retry()
    while True:
        try:
            async with bus.subscribe(TOPIC_ROUTES) as subscription:
                while True:
                    # Read under the subscription: nothing between the snapshot and the events is missed.
                    table.replace(await directory.routes())
                    retry.reset()
                    _log.info("route table loaded", routes=len(table))
                    if not started:
                        started = True
                        task_status.started()
                    try:
                        async for _, message in subscription:
                            event = decode_route_event(message)
                            if event is not None:
                                table.apply(event)
                    except BusGap:
                        table.fall_behind()
                        _log.warning("the bus has a gap: reloading the route table")
        except Unavailable as error:
            if not table.outage:  # once, not at every attempt
                _log.warning("cannot follow the directory", error=str(error), routes=len(table))
            table.outage = str(error) or "the directory does not answer"
            table.cut_off = not isinstance(error, Recovering)
        finally:
            table.fall_behind()
        await retry.pause()
