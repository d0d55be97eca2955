"""Opens the directory and the bus that a URL names.

Called by the composition roots. It must never import a twin before it is asked for: the one on Redis patches
asyncio, and needs what an embedded server does not install.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import partial
from typing import Final

from whook.backplane.ports import TOPICS, Backplane, ignored
from whook.chassis import metrics

MEMORY: Final = "memory:"
"""The URL of a backplane that lives in this process alone."""
_REDIS: Final = ("redis://", "rediss://", "unix:")


def open_backplane(url: str) -> AbstractAsyncContextManager[Backplane]:
    """Return the backplane at ``url``, to be entered. Raises ValueError for one that cannot be used."""
    check_backplane_url(url)
    if url == MEMORY:
        from whook.backplane.memory import open_memory_backplane

        return _published(open_memory_backplane())
    from whook.backplane.redis import open_redis_backplane

    return _published(open_redis_backplane(url))


@asynccontextmanager
async def _published(opening: AbstractAsyncContextManager[Backplane]) -> AsyncGenerator[Backplane]:
    """Publish what the process passes over, as long as the backplane is open."""
    with ExitStack() as stack:
        for topic in TOPICS:
            count = partial(ignored.__getitem__, topic)
            watch = metrics.watch(
                "whook_bus_ignored", "Messages on the bus not known here.", count, kind="counter", topic=topic
            )
            stack.enter_context(watch)
        async with opening as backplane:
            yield backplane


def check_backplane_url(url: str) -> None:
    """Return if ``url`` is of a kind that can be opened. Raises ValueError; its text holds no password."""
    if url != MEMORY and not url.startswith(_REDIS):
        scheme = url.partition(":")[0] if ":" in url else "no scheme"
        raise ValueError(f"cannot use a URL with {scheme}: give redis://…, rediss://… or unix:///path")
