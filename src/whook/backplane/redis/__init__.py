"""The backplane of many processes: directory, bus and queue on Redis 6.2 or later.

Opened by the composition roots of clustered daemons alone. This folder alone imports redis and trio-asyncio,
which patches asyncio, so nothing else may import this folder either.
"""

from whook.backplane.redis.backplane import PREFIX, open_redis_backplane
from whook.backplane.redis.bus import SUBSCRIBER_BUFFER, RedisBus
from whook.backplane.redis.directory import RedisDirectory
from whook.backplane.redis.journal import RedisJournal, open_redis_journal
from whook.backplane.redis.queue import RedisQueue, open_redis_queue

__all__ = [
    "PREFIX",
    "SUBSCRIBER_BUFFER",
    "RedisBus",
    "RedisDirectory",
    "RedisJournal",
    "RedisQueue",
    "open_redis_backplane",
    "open_redis_journal",
    "open_redis_queue",
]
