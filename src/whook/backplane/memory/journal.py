"""The journal of a single process: a bounded hand-over from the recorder to itself.

What it holds dies with the process, hence it is short.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import trio

from whook.backplane.ports import JournalEntry, JournalFull, News

MAX_BATCHES = 16
READ_SECONDS = 1.0
"""How long a read waits."""


class MemoryJournal:
    """The Journal in memory, for one reader."""

    survives = False

    def __init__(self, *, max_batches: int = MAX_BATCHES) -> None:
        """Hold so many batches that were not stored, those included that are being stored."""
        self._max = max_batches
        self._fresh: deque[JournalEntry] = deque()
        self._given: set[str] = set()
        self._count = 0
        self._wake = trio.Event()

    async def append(self, records: Sequence[News]) -> None:
        """Add a batch. Raises JournalFull."""
        await trio.lowlevel.checkpoint()
        if len(self._fresh) + len(self._given) >= self._max:
            raise JournalFull
        self._count += 1
        self._fresh.append(JournalEntry(str(self._count), records))
        self._wake.set()

    async def read(self) -> list[JournalEntry]:
        """Wait for batches and return all there are."""
        with trio.move_on_after(READ_SECONDS):
            await self._wake.wait()
        self._wake = trio.Event()
        found = list(self._fresh)
        self._fresh.clear()
        self._given.update(entry.key for entry in found)
        return found

    async def done(self, keys: list[str]) -> None:
        """Forget batches."""
        await trio.lowlevel.checkpoint()
        self._given.difference_update(keys)
