"""Who holds which project, in memory, so that a request finds its route without waiting.

Owns the route table and the task that keeps it true: a snapshot of the directory, then the bus. Read by the
ingress for every request; written by the sync task, and by the resolver when a route turned out wrong. A
look-up must never do I/O.

Generations fence: an older claim never overwrites a newer one, and what is gone takes only older ones along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import structlog
import trio

from whook.backplane.ports import (
    TOPIC_ROUTES,
    Bus,
    BusGap,
    Directory,
    Route,
    RouteEvent,
    RouteGone,
    RouteSet,
    Unavailable,
    decode_route_event,
)
from whook_conductor.retry import Retry

_MAX_TOMBSTONES: Final = 16_384
"""Ended generations remembered, so that a late announcement of one is known for what it is. When there are
more they are all forgotten: the worst case is one request that is re-resolved."""

_log = structlog.get_logger("whook.conductor.routes")


class RouteTable:
    """Every live route by the name of its project."""

    def __init__(self) -> None:
        self._by_name: dict[str, Route] = {}
        self._by_relay: dict[str, set[str]] = {}
        self._names: dict[str, str] = {}
        self._ended: dict[str, int] = {}
        self.ready = False
        """Whether the table follows the directory. When not, its routes are still the best guess."""
        self.changed: Callable[[str], None] | None = None
        """Called with the id of a project that has a route it did not have."""

    def __len__(self) -> int:
        return len(self._by_name)

    def lookup(self, project: str) -> Route | None:
        """Return the route of the project of this name."""
        return self._by_name.get(project)

    def of(self, project_id: str) -> Route | None:
        """Return the route of the project of this id."""
        name = self._names.get(project_id)
        return None if name is None else self._by_name[name]

    def replace(self, routes: Iterable[Route]) -> None:
        """Take a snapshot of the directory instead of everything known."""
        self._by_name = {}
        self._by_relay = {}
        self._names = {}
        self._ended = {}
        for route in routes:
            self._put(route)

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
        self._by_name[route.project] = route
        self._names[route.project_id] = route.project
        self._by_relay.setdefault(route.relay_id, set()).add(route.project_id)
        if self.changed is not None:
            self.changed(route.project_id)

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

    A gap in the bus, or a directory that cannot be read, makes the table not ready until a new snapshot has
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
                    table.ready = True
                    retry.reset()
                    _log.info("route table loaded", routes=len(table))
                    if not started:
                        started = True
                        task_status.started()
                    try:
                        async for _, message in subscription:
                            table.apply(decode_route_event(message))
                    except BusGap:
                        table.ready = False
                        _log.warning("the bus has a gap: reloading the route table")
        except Unavailable as error:
            _log.warning("cannot follow the directory", error=str(error))
        finally:
            table.ready = False
        await retry.pause()
