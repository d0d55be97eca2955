"""The kicks of late: what tells somebody who has missed one which tunnels are to be closed nevertheless.

Relays keep one to judge tunnels by, auth keeps one to put back what the bus has lost. Pure memory, bounded in
number and, by what each Kick says about itself, in time; it must never wait nor read a clock.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from whook.backplane.ports.events import Kick

KICKS_KEPT: Final = 4096
"""Kicks remembered, at about 300 bytes each. When there are more within a tunnel token's life the earliest
are forgotten; whoever had missed one of them keeps its tunnel until the token ends."""

_Names = tuple[str, str, str, str, str]
_Kind = tuple[bool, bool, bool, bool, bool]
"""Which of its names a Kick gives."""


class RecentKicks:
    """Kicks by whom they mean, the latest for each."""

    def __init__(self, limit: int = KICKS_KEPT) -> None:
        self._limit = limit
        self._kicks: dict[_Names, Kick] = {}
        self._kinds: Counter[_Kind] = Counter()

    def __len__(self) -> int:
        return len(self._kicks)

    def note(self, kick: Kick, now: float) -> bool:
        """Remember a Kick until its end (Unix seconds, as ``now``); return whether it was news."""
        names = (kick.project_id, kick.project, kick.user_id, kick.token_id, kick.tunnel_id)
        known = self._kicks.get(names)
        if kick.until <= now or (known is not None and known.at >= kick.at):
            return False
        if known is not None:
            self._forget(names)
        self._kicks[names] = kick
        self._kinds[_kind_of(names)] += 1
        self._prune(now)
        return True

    def find(
        self,
        *,
        project_id: str,
        project: str,
        user_id: str,
        token_id: str,
        issued_at: float,
        tunnel_id: str = "",
    ) -> Kick | None:
        """Return a Kick that is meant for the tunnel of a token with these properties."""
        # A Kick matches whatever it leaves empty, so there is one name to look for with each kind of Kick.
        mine = (project_id, project, user_id, token_id, tunnel_id)
        for kind in self._kinds:
            a, b, c, d, e = (name if given else "" for name, given in zip(mine, kind, strict=True))
            kick = self._kicks.get((a, b, c, d, e))
            if kick is not None and kick.covers(issued_at):
                return kick
        return None

    def standing(self, now: float) -> list[Kick]:
        """Return the kicks that have not ended, the earliest first."""
        self._prune(now)
        return list(self._kicks.values())

    def _prune(self, now: float) -> None:
        """Drop what is over or too much. The earliest comes first, and ends first."""
        while self._kicks:
            names, kick = next(iter(self._kicks.items()))
            if kick.until > now and len(self._kicks) <= self._limit:
                return
            self._forget(names)

    def _forget(self, names: _Names) -> None:
        del self._kicks[names]
        kind = _kind_of(names)
        self._kinds[kind] -= 1
        if not self._kinds[kind]:
            del self._kinds[kind]


def _kind_of(names: _Names) -> _Kind:
    a, b, c, d, e = names
    return (bool(a), bool(b), bool(c), bool(d), bool(e))
