"""The journal: where batches of news wait while the history's database is away or slow.

A conductor's recorder appends what it cannot store at once; the recorder of any conductor reads, stores it in
the history, and says that it is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from whook.backplane.ports.history import News


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One batch."""

    key: str
    records: Sequence[News]


class JournalFull(Exception):
    """More waits in the journal than it may hold; the batch was not taken."""


class Journal(Protocol):
    """A bounded hand-over. All but `survives` raise Unavailable when it does not answer."""

    @property
    def survives(self) -> bool:
        """Whether what was appended outlives this process, and another one may store it."""
        ...

    async def append(self, records: Sequence[News]) -> None:
        """Add a batch at the end. Raises JournalFull; after Unavailable it may have been added or not."""
        ...

    async def read(self) -> list[JournalEntry]:
        """Wait a while for batches and return some; none after that while.

        Each goes to one reader, and to another one if that does not say in time that it is done. Whoever has
        been given one does not get it again while it runs.
        """
        ...

    async def done(self, keys: list[str]) -> None:
        """Forget batches: they are in the history."""
        ...
