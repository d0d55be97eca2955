"""Which relay a new tunnel goes to.

Owns the last reported load of every relay and what this conductor has assigned since. Called by the control
API (`choose`) and by the task that watches relays (`update`). Pure and synchronous: it does no I/O and
holds no tunnel, so an answer is advice that the relay itself may still refuse (FULL).

Method: the power of two choices on load relative to capacity. Two candidates are drawn at random and the
less loaded wins, which keeps the largest load within O(log log n) of the mean without every conductor
herding onto the one relay that looked empty in the last report (Mitzenmacher, "The Power of Two Choices in
Randomized Load Balancing", 2001).
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import trio

from whook.backplane.ports import RelayInfo

SETTLE_SECONDS: Final = 2.0
"""How long a client takes, at most, from being given a relay to showing in that relay's reported load."""


class Placement:
    """The relays this conductor knows, and the choice among them."""

    def __init__(
        self,
        clock: Callable[[], float],
        rng: random.Random | None = None,
        *,
        reachable: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`clock` gives seconds that only grow; `rng` is for tests that need the same draw every time.

        `reachable` says of a relay's id whether it answers: one that was killed has its lease for a while.
        """
        self._clock = clock
        self._reachable = reachable
        self._rng = rng or random.Random()  # noqa: S311 - spreading load, not guarding a secret
        self._relays: dict[str, RelayInfo] = {}
        self._assigned: dict[str, deque[float]] = {}
        self.reported = trio.Event()
        """There was a report."""

    @property
    def relays(self) -> list[RelayInfo]:
        """The relays of the last report."""
        return list(self._relays.values())

    def update(self, relays: Iterable[RelayInfo]) -> None:
        """Take a new report of all live relays.

        Assignments older than `SETTLE_SECONDS` are in the reported load by now, or never came: they are
        forgotten.
        """
        self._relays = {relay.id: relay for relay in relays}
        self.reported.set()
        settled = self._clock() - SETTLE_SECONDS
        for relay_id in list(self._assigned):
            assigned = self._assigned[relay_id]
            while assigned and assigned[0] <= settled:
                assigned.popleft()
            if not assigned or relay_id not in self._relays:
                del self._assigned[relay_id]

    @property
    def has_room(self) -> bool:
        """Whether some relay could take a tunnel now."""
        return any(self._takes(relay) for relay in self._relays.values())

    def choose(self, *, holder: str | None = None) -> RelayInfo | None:
        """Return the relay for one more tunnel and count it as assigned, or None when no relay has room.

        `holder` is the relay of the project's present holder when a watcher asks: only that relay sees the
        project's requests, so there is no choice, and it may even be draining.
        """
        if holder is not None:
            chosen = self._relays.get(holder)
            if chosen is None or self._load(chosen) >= chosen.capacity:
                return None
        else:
            candidates = [relay for relay in self._relays.values() if self._takes(relay)]
            if not candidates:
                return None
            pair = candidates if len(candidates) <= 2 else self._rng.sample(candidates, 2)
            self._rng.shuffle(pair)
            chosen = min(pair, key=self._fullness)
        self._assigned.setdefault(chosen.id, deque()).append(self._clock())
        return chosen

    def _takes(self, relay: RelayInfo) -> bool:
        return not relay.draining and self._load(relay) < relay.capacity and self._reachable(relay.id)

    def _load(self, relay: RelayInfo) -> int:
        return relay.load + len(self._assigned.get(relay.id, ()))

    def _fullness(self, relay: RelayInfo) -> float:
        return self._load(relay) / relay.capacity
