"""Opens the directory, the bus, the queue and the journal that URLs name.

Called by the composition roots. It must never import a twin before it is asked for: the one on Redis patches
asyncio, and needs what an embedded server does not install.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import Final

from whook.backplane.compose.settings import BackplaneSettings
from whook.backplane.ports import TOPICS, Backplane, Bus, Journal, Queue, ignored
from whook.chassis import metrics

MEMORY: Final = "memory:"
"""The URL of a backplane that lives in this process alone."""
_REDIS: Final = ("redis://", "rediss://", "unix:")
_SQLITE: Final = "sqlite:"


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


def open_journal(settings: BackplaneSettings) -> AbstractAsyncContextManager[Journal]:
    """Return the history's journal on the backplane, to be entered. Raises ValueError as `open_backplane`."""
    url = settings.url.get_secret_value()
    check_backplane_url(url)
    if url == MEMORY:
        from whook.backplane.memory import MemoryJournal

        return nullcontext(MemoryJournal())
    from whook.backplane.redis import open_redis_journal

    return open_redis_journal(url, settings.sealer())


def check_backplane_url(url: str) -> None:
    """Return if ``url`` is of a kind that can be opened. Raises ValueError; its text holds no password."""
    if url != MEMORY and not url.startswith(_REDIS):
        scheme = url.partition(":")[0] if ":" in url else "no scheme"
        raise ValueError(f"cannot use a URL with {scheme}: give redis://…, rediss://… or unix:///path")


def open_queue(settings: BackplaneSettings, bus: Bus) -> AbstractAsyncContextManager[Queue]:
    """Return the queue that the settings name, to be entered inside the backplane that has ``bus``.

    Raises ValueError for a URL that cannot be used.
    """
    check_queue_url(settings)
    url, shared = _queue_url(settings), settings.url.get_secret_value()
    if url.startswith(_SQLITE):
        from whook.backplane.sql import open_sqlite_queue

        return open_sqlite_queue(url, bus, sealer=settings.sealer())
    from whook.backplane.redis import open_redis_queue

    return open_redis_queue(
        url,
        sealer=settings.sealer(),
        durability=settings.queue_durability,
        # On the Redis of the bus the queue publishes in the step that changes it.
        bus=None if url == shared else bus,
    )


def check_queue_url(settings: BackplaneSettings) -> None:
    """Return if the queue can be opened where the settings say. Raises ValueError without a password."""
    url = _queue_url(settings)
    if url == MEMORY:
        raise ValueError("a backplane in memory keeps no queue: give redis://… or sqlite:///PATH")
    if not url.startswith(_SQLITE):
        check_backplane_url(url)
        return
    from whook.backplane.sql import check_queue_url as check_sqlite

    check_sqlite(url)


def _queue_url(settings: BackplaneSettings) -> str:
    return settings.queue_url.get_secret_value() or settings.url.get_secret_value()
