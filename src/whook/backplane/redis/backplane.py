"""Opens directory and bus on Redis, with everything that they need running.

Called by the composition root, outside of all that uses them: the asyncio loop in here must outlive its
users.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from whook.backplane.ports import Backplane
from whook.backplane.redis.bridge import open_bridge
from whook.backplane.redis.bus import SUBSCRIBER_BUFFER, RedisBus
from whook.backplane.redis.directory import SETTLE_SECONDS, RedisDirectory

PREFIX = "whook:"
"""Begins every key and channel. Channels are shared by all databases of one Redis."""


@asynccontextmanager
async def open_redis_backplane(
    url: str,
    *,
    prefix: str = PREFIX,
    settle: float = SETTLE_SECONDS,
    buffer: int = SUBSCRIBER_BUFFER,
) -> AsyncGenerator[Backplane, None]:
    """Open a backplane that is shared by all processes with the same Redis and prefix.

    ``url`` is ``redis://user:password@host:port/database``, ``rediss://…`` for TLS or ``unix:///path``. Redis
    need not be there: until it is, calls raise Unavailable. ``settle`` is how many seconds after Redis has
    lost its data relays are given to put theirs back; a relay's heartbeat and some must fit into it.
    ``buffer`` is how many messages a subscriber may lag behind. Raises ValueError for a URL that cannot be
    used.
    """
    async with open_bridge(url) as bridge:
        bus = RedisBus(bridge, prefix, buffer=buffer)
        directory = RedisDirectory(bridge, prefix, settle=settle)
        async with trio.open_nursery() as nursery:
            await nursery.start(bus.run, name="redis bus")
            nursery.start_soon(directory.sweep, name="expire leases")
            yield Backplane(directory, bus)
            nursery.cancel_scope.cancel(reason="the backplane is closed")
