"""Claims of routes that are under way, and the news that overtakes them.

A claim takes effect in the directory before its answer is here. What the bus says of the project meanwhile
may be newer, and would find no tunnel to close: two clients would both believe that they hold it. `Tunnels`
opens a claim here around its call, `lease.follow_bus` notes what it hears. Tables change synchronously.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from whook.backplane.ports import Route


class Claim:
    """One claim under way. `heard` is the newest route that was heard of since it began."""

    __slots__ = ("heard",)

    def __init__(self) -> None:
        self.heard: Route | None = None


class Claims:
    """All claims of one relay that are under way."""

    def __init__(self) -> None:
        self._by_project: dict[str, set[Claim]] = {}

    def __len__(self) -> int:
        return len(self._by_project)

    @contextmanager
    def under_way(self, project_id: str) -> Generator[Claim]:
        """Note what is heard of a project while the block runs."""
        claim = Claim()
        claims = self._by_project.setdefault(project_id, set())
        claims.add(claim)
        try:
            yield claim
        finally:
            claims.discard(claim)
            if not claims:
                del self._by_project[project_id]

    def note(self, route: Route) -> None:
        """Take a route that was set."""
        for claim in self._by_project.get(route.project_id, ()):
            if claim.heard is None or claim.heard.generation < route.generation:
                claim.heard = route
