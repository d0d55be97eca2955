"""A mirror of the route table as the Directory port describes it: the proof that its events are enough."""

from __future__ import annotations

import trio

from tests.support.deadlines import DEADLINE
from whook.backplane.ports import (
    TOPIC_ROUTES,
    Backplane,
    BusGap,
    RelayGone,
    Route,
    RouteEvent,
    RouteGone,
    RouteSet,
    Subscription,
    decode_route_event,
)

MARKER = "test-marker"
"""A topic of the tests' own: what was published before it has arrived when it has."""

TOPICS = (TOPIC_ROUTES, MARKER)


class RouteMirror:
    """Follows one subscription to TOPICS, from an empty directory or from a snapshot."""

    def __init__(self, backplane: Backplane, subscription: Subscription) -> None:
        self._backplane = backplane
        self._subscription = subscription
        self.routes: dict[str, Route] = {}
        self.events: list[RouteEvent] = []

    async def load(self) -> None:
        """Take a snapshot instead of what is known."""
        self.routes = {route.project_id: route for route in await self._backplane.directory.routes()}

    async def catch_up(self) -> None:
        """Apply everything that was published before this call."""
        await self._backplane.bus.publish(MARKER, b"")
        with trio.fail_after(DEADLINE):
            while True:
                try:
                    async for topic, message in self._subscription:
                        if topic == MARKER:
                            return
                        self.apply(_event(message))
                except BusGap:
                    await self.load()
                    return

    async def wait_event(self) -> RouteEvent:
        """Wait for the next event; apply it and return it."""
        with trio.fail_after(DEADLINE):
            async for topic, message in self._subscription:
                if topic == TOPIC_ROUTES:
                    event = _event(message)
                    self.apply(event)
                    return event
        raise AssertionError("a subscription never ends")

    def apply(self, event: RouteEvent) -> None:
        """Change the mirror by one event."""
        self.events.append(event)
        match event:
            case RouteSet(route):
                known = self.routes.get(route.project_id)
                if known is None or known.generation <= route.generation:
                    self.routes[route.project_id] = route
            case RouteGone(project_id, generation):
                known = self.routes.get(project_id)
                if known is not None and known.generation <= generation:
                    del self.routes[project_id]
            case RelayGone(relay_id, generation):
                self.routes = {
                    project_id: route
                    for project_id, route in self.routes.items()
                    if route.relay_id != relay_id or route.generation > generation
                }


def _event(message: bytes) -> RouteEvent:
    event = decode_route_event(message)
    assert event is not None, message
    return event
