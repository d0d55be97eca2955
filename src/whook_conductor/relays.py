"""The relays that are there now, kept fresh for whoever places tunnels or keeps trunks.

Owns the one task that reads the list from the directory: on every word of the bus, and at an interval, since
the load changes without news. Hands each list to its readers synchronously.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import trio

from whook.backplane.ports import TOPIC_RELAYS, Bus, BusGap, Directory, RelayInfo, Unavailable
from whook_conductor.retry import Retry

Reader = Callable[[Sequence[RelayInfo]], None]

_log = structlog.get_logger("whook.conductor.relays")


async def watch_relays(
    directory: Directory,
    bus: Bus,
    readers: Sequence[Reader],
    *,
    interval: float,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Read the relays every `interval` seconds or as soon as something changed, for ever.

    Started after the first reading. While the directory cannot be read the last list stands: relays that were
    there most probably still are.
    """
    news = trio.Event()

    async def listen() -> None:
        nonlocal news
        retry = Retry()
        while True:
            try:
                async with bus.subscribe(TOPIC_RELAYS) as subscription:
                    news.set()
                    while True:
                        try:
                            async for _ in subscription:
                                retry.reset()
                                news.set()
                        except BusGap:
                            news.set()
                            await trio.lowlevel.checkpoint()
            except Unavailable as error:
                _log.warning("cannot follow the relays", error=str(error))
            await retry.pause()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, name="relay events")
        retry = Retry()
        started = False
        while True:
            news = trio.Event()
            try:
                relays = await directory.relays()
            except Unavailable as error:
                _log.warning("cannot read the relays", error=str(error))
                await retry.pause()
                continue
            retry.reset()
            for reader in readers:
                reader(relays)
            if not started:
                started = True
                task_status.started()
            with trio.move_on_after(interval):
                await news.wait()
