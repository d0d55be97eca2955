"""Opens the directory and the bus that a URL names.

Called by the composition roots. It must never import a twin before it is asked for: the one on Redis patches
asyncio, and needs what an embedded server does not install.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final

from whook.backplane.ports import Backplane, Journal
from whook.chassis.sealing import Sealer

MEMORY: Final = "memory:"
"""The URL of a backplane that lives in this process alone."""
_REDIS: Final = ("redis://", "rediss://", "unix:")


def open_backplane(url: str) -> AbstractAsyncContextManager[Backplane]:
    """Return the backplane at ``url``, to be entered. Raises ValueError for one that cannot be used."""
    check_backplane_url(url)
    if url == MEMORY:
        from whook.backplane.memory import open_memory_backplane

        return open_memory_backplane()
    from whook.backplane.redis import open_redis_backplane

    return open_redis_backplane(url)


def open_journal(url: str, sealer: Sealer) -> AbstractAsyncContextManager[Journal]:
    """Return the journal on the backplane at ``url``, to be entered. Raises ValueError as `open_backplane`."""
    check_backplane_url(url)
    if url == MEMORY:
        from whook.backplane.memory import MemoryJournal

        return nullcontext(MemoryJournal())
    from whook.backplane.redis import open_redis_journal

    return open_redis_journal(url, sealer)


def check_backplane_url(url: str) -> None:
    """Return if ``url`` is of a kind that can be opened. Raises ValueError; its text holds no password."""
    if url != MEMORY and not url.startswith(_REDIS):
        scheme = url.partition(":")[0] if ":" in url else "no scheme"
        raise ValueError(f"cannot use a URL with {scheme}: give redis://…, rediss://… or unix:///path")
