"""Which relay a new tunnel goes to.

Owns the last reported load of every relay, and what has been assigned or come since. Called by the control
API (`choose`), by the task that watches relays (`update`) and by the route table (`landed`). Pure and
synchronous: it does no I/O and holds no tunnel, so an answer is advice that the relay may still refuse.

Method: the power of two choices on load relative to capacity. Two candidates are drawn at random and the
less loaded wins, which keeps the largest load within O(log log n) of the mean without every conductor
herding onto the one relay that looked empty in the last report (Mitzenmacher, "The Power of Two Choices in
Randomized Load Balancing", 2001).

A report is up to a heartbeat old. What has changed since is known from the routes, which all conductors hear
of at once, and from this conductor's own assignments that have not become routes yet.
"""

import random
from collections.abc import Callable, Hashable, Iterable
from typing import Final

import trio

from whook.backplane.ports import RelayInfo, Route

SETTLE_SECONDS: Final = 10.0
"""How long a client may take from being given a relay to its route: beyond it the tunnel never came."""


class Placement:
    """The relays this conductor knows, and the choice among them."""

    def __init__(
        self,
        clock: Callable[[], float],
        rng: random.Random | None = None,
        *,
        held: Callable[[str], int] = lambda _: 0,
        reachable: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`clock` gives seconds that only grow; `rng` is for tests that need the same draw every time.

        `held` gives how many routes lead to a relay now, `reachable` whether there is a trunk to it.
        """
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - spreading load, not guarding a secret
        self._held = held
        self._reachable = reachable
        self._relays: dict[str, RelayInfo] = {}
        self._held_then: dict[str, int] = {}
        """Routes of each relay when its last report came."""
        self.reported = trio.Event()
        """There was a report."""
        self._assigned: dict[str, dict[Hashable, float]] = {}
        """By relay: projects on their way to it, the oldest first, and since when."""

    @property
    def relays(self) -> list[RelayInfo]:
        """The relays of the last report."""
        return list(self._relays.values())

    def update(self, relays: Iterable[RelayInfo]) -> None:
        """Take a new report of all live relays."""
        self.reported.set()
        before = self._relays
        self._relays = {relay.id: relay for relay in relays}
        for relay in self._relays.values():
            if before.get(relay.id) != relay:  # else it is the report that is known
                self._held_then[relay.id] = self._held(relay.id)
        for relay_id in set(self._held_then) - set(self._relays):
            del self._held_then[relay_id]
            self._assigned.pop(relay_id, None)

    def landed(self, route: Route) -> None:
        """Note that a project has a route: it is counted as such from now on."""
        if (assigned := self._assigned.get(route.relay_id)) is not None:
            assigned.pop(route.project, None)

    @property
    def has_room(self) -> bool:
        """Whether some relay could take a tunnel now."""
        return any(self._takes_more(relay) for relay in self._relays.values())

    def choose(self, project: str | None = None, *, holder: str | None = None) -> RelayInfo | None:
        """Return the relay for one more tunnel and count it as assigned, or None when no relay has room.

        A relay that is draining is never chosen, nor one that this conductor cannot reach: one that was
        killed has its lease for a while. `holder` is the relay of the project's present holder when a watcher
        asks: only that relay sees the project's requests, so there is no choice, and it may even be draining.
        """
        if holder is not None:
            chosen = self._relays.get(holder)
            if chosen is None or self._load(chosen) >= chosen.capacity:
                return None
        else:
            candidates = [r for r in self._relays.values() if self._takes_more(r)]
            if not candidates:
                return None
            pair = candidates if len(candidates) <= 2 else self._rng.sample(candidates, 2)
            self._rng.shuffle(pair)
            chosen = min(pair, key=self._fullness)
        key: Hashable = object() if project is None else project
        for assigned in self._assigned.values():
            assigned.pop(key, None)  # it comes again: wherever it was sent before, it is not there
        self._assigned.setdefault(chosen.id, {})[key] = self._clock()
        return chosen

    def _takes_more(self, relay: RelayInfo) -> bool:
        return not relay.draining and self._load(relay) < relay.capacity and self._reachable(relay.id)

    def _load(self, relay: RelayInfo) -> int:
        assigned = self._assigned.get(relay.id, {})
        settled = self._clock() - SETTLE_SECONDS
        while assigned and assigned[oldest := next(iter(assigned))] <= settled:
            del assigned[oldest]
        since = self._held(relay.id) - self._held_then.get(relay.id, 0)
        return max(0, relay.load + since) + len(assigned)

    def _fullness(self, relay: RelayInfo) -> float:
        return self._load(relay) / relay.capacity
