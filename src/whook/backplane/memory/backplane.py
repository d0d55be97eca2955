"""Opens directory and bus in memory together with the one task that they need.

Called by the composition root. It must never be opened twice for the same services: each has its own state.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from whook.backplane.memory.bus import MemoryBus
from whook.backplane.memory.directory import MemoryDirectory
from whook.backplane.ports import Backplane


@asynccontextmanager
async def open_memory_backplane() -> AsyncGenerator[Backplane, None]:
    """Open a backplane for the services of this process; leases expire while the context is open."""
    bus = MemoryBus()
    directory = MemoryDirectory(bus)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(directory.expire_leases, name="expire leases")
        yield Backplane(directory, bus)
        nursery.cancel_scope.cancel(reason="the backplane is closed")
