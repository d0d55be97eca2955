"""What becomes of a claim while the relay waits for the directory's answer, and which routes to put back.

The bus may tell of a project's next route before the answer to the claim of its last one is here; and the
lease may end under it. Owned by `switch`; `tunnels` notes claims, `lease` what the directory and the bus say.
Synchronous, does no I/O.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from whook.backplane.ports import Route


class Claim:
    """One claim that has no answer yet."""

    __slots__ = ("overtaken_by", "tunnel_id")

    def __init__(self, tunnel_id: str) -> None:
        self.tunnel_id = tunnel_id
        self.overtaken_by: Route | None = None
        """The newest route of the project that leads elsewhere. It counts if it is newer than the answer."""

    def overtake(self, route: Route) -> None:
        """Take news of the project's route."""
        known = self.overtaken_by
        if self.tunnel_id != route.tunnel_id and (known is None or known.generation < route.generation):
            self.overtaken_by = route


class Claims:
    """The claims under way of one relay."""

    def __init__(self) -> None:
        self.lost: set[str] = set()
        """Ids of projects whose routes may have gone with a lease."""
        self._waiting: dict[str, set[Claim]] = {}
        self._leases = 0

    @contextmanager
    def waiting(self, project_id: str, tunnel_id: str) -> Generator[Claim]:
        """Note that the block waits for the answer to a claim."""
        leases, claim = self._leases, Claim(tunnel_id)
        waiting = self._waiting.setdefault(project_id, set())
        waiting.add(claim)
        try:
            yield claim
            if self._leases != leases:
                self.lost.add(project_id)
        finally:
            waiting.discard(claim)
            if not waiting:
                self._waiting.pop(project_id, None)

    def overtake(self, route: Route) -> None:
        """Take news of a project's route."""
        for claim in self._waiting.get(route.project_id, ()):
            claim.overtake(route)

    def new_lease(self, held: Iterable[str]) -> None:
        """Take note that the lease is a new one: the routes of the projects that are `held` are gone."""
        self._leases += 1
        self.lost.update(held)
