"""The journal on a Redis stream with one consumer group, bounded in bytes.

Opened by the composition root of a clustered conductor. A batch is one entry; it is deleted once it is in the
history, so the stream holds only what waits. When it holds as much as it may, nothing is added: the oldest
is never dropped for the newest, and the conductor that could not add counts what it drops itself.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from whook.backplane.ports import EncodedRecord, JournalEntry, JournalFull, News, Record, Unavailable
from whook.backplane.redis.backplane import PREFIX
from whook.backplane.redis.bridge import Bridge, open_bridge
from whook.backplane.redis.scripts import Script
from whook.chassis.ids import new_id
from whook.chassis.logs import get_logger
from whook.chassis.sealing import Sealer, SealError

MAX_BYTES: Final = 268_435_456
"""Bytes that may wait: at 300 webhooks of 2 KiB a second some seven minutes without the database."""
READ_MILLISECONDS: Final = 1_000
"""How long a read waits: well below what a call to Redis may take."""
READ_COUNT: Final = 4
"""Batches that one read returns at most."""
CLAIM_SECONDS: Final = 30.0
"""A batch that its reader has had for so long without being done goes to another reader."""
CLAIM_EVERY: Final = 5.0
"""Seconds between two looks for such batches."""
FORGOTTEN_SECONDS: Final = 3_600.0
"""A reader that has done nothing for so long, and has nothing, is taken out of the group."""

_GROUP: Final = "history"
_ABOUT: Final = "journal"

_PREPARE: Final = """
-- ARGV: stream, group, idle milliseconds after which a reader without batches is forgotten
redis.pcall('XGROUP', 'CREATE', ARGV[1], ARGV[2], '0', 'MKSTREAM')
for _, reader in ipairs(redis.call('XINFO', 'CONSUMERS', ARGV[1], ARGV[2])) do
  local told = {}
  for n = 1, #reader, 2 do told[reader[n]] = reader[n + 1] end
  if told.pending == 0 and told.idle > tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', ARGV[1], ARGV[2], told.name)
  end
end
return {}
"""
_APPEND: Final = """
-- ARGV: stream, key of the count of bytes, bytes that may wait, batch
local held = tonumber(redis.call('GET', ARGV[2]) or '0')
if held > 0 and redis.call('XLEN', ARGV[1]) == 0 then held = 0 end
if held + #ARGV[4] > tonumber(ARGV[3]) then return {'full'} end
redis.call('XADD', ARGV[1], '*', 'b', ARGV[4])
redis.call('SET', ARGV[2], held + #ARGV[4])
return {'added'}
"""
_DONE: Final = """
-- ARGV: stream, key of the count of bytes, group, then an id and its size for each batch
for n = 4, #ARGV, 2 do
  redis.call('XACK', ARGV[1], ARGV[3], ARGV[n])
  if redis.call('XDEL', ARGV[1], ARGV[n]) == 1 then redis.call('DECRBY', ARGV[2], ARGV[n + 1]) end
end
return {}
"""

_log = get_logger("whook.backplane.redis")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


PREPARE, APPEND, DONE = _script(_PREPARE), _script(_APPEND), _script(_DONE)


class RedisJournal:
    """The Journal of all conductors on one Redis."""

    survives = True

    def __init__(
        self,
        bridge: Bridge,
        prefix: str,
        sealer: Sealer,
        *,
        max_bytes: int = MAX_BYTES,
        claim_after: float = CLAIM_SECONDS,
        claim_every: float = CLAIM_EVERY,
    ) -> None:
        self._bridge = bridge
        self._stream = f"{prefix}journal"
        self._held = f"{prefix}journal-bytes"
        self._sealer = sealer
        self._max_bytes = max_bytes
        self._claim_after = int(claim_after * 1000)
        self._claim_every = claim_every
        self._reader = new_id("rdr")
        self._prepared = False
        self._claim_at = 0.0
        self._sizes: dict[str, int] = {}
        """Of the batches that were given out here and are not done."""

    async def append(self, records: Sequence[News]) -> None:
        """Add a batch. Raises JournalFull, Unavailable."""
        encoded = [msgspec.Raw(news.data) if isinstance(news, EncodedRecord) else news for news in records]
        data = self._sealer.seal(_encode(encoded), _ABOUT)
        reply = await self._bridge.run(APPEND, self._stream, self._held, self._max_bytes, data)
        if reply == [b"full"]:
            raise JournalFull

    async def read(self) -> list[JournalEntry]:
        """Wait for batches, those of readers that are gone included. Raises Unavailable."""
        try:
            if not self._prepared:
                idle = int(FORGOTTEN_SECONDS * 1000)
                await self._bridge.run(PREPARE, self._stream, _GROUP, idle)
                self._prepared = True
            entries = await self._claim()
            if not entries:
                entries = await self._read_new()
        except Unavailable:
            self._prepared = False  # a Redis that has lost its data has no group any more
            raise
        found: list[JournalEntry] = []
        broken: list[str] = []
        for key, data in entries:
            self._sizes[key] = len(data)
            try:
                found.append(JournalEntry(key, _decode(self._sealer.open(data, _ABOUT))))
            except (SealError, msgspec.MsgspecError) as error:
                _log.error("a batch of the journal cannot be read and is given up", error=str(error))
                broken.append(key)
        if broken:
            await self.done(broken)
        return found

    async def _claim(self) -> list[tuple[str, bytes]]:
        """Return batches that another reader has had for too long."""
        now = time.monotonic()
        if now < self._claim_at:
            return []
        reply = await self._bridge.command(
            "XAUTOCLAIM", self._stream, _GROUP, self._reader, self._claim_after, "0-0", "COUNT", READ_COUNT
        )
        claimed = _entries(reply[1])
        if not claimed:
            self._claim_at = now + self._claim_every
        # Ours that merely take long stay ours: they are being stored.
        return [(key, data) for key, data in claimed if key not in self._sizes]

    async def _read_new(self) -> list[tuple[str, bytes]]:
        reply = await self._bridge.command(
            *("XREADGROUP", "GROUP", _GROUP, self._reader, "COUNT", READ_COUNT),
            *("BLOCK", READ_MILLISECONDS, "STREAMS", self._stream, ">"),
            alone=True,
        )
        return _entries(reply[0][1]) if reply else []

    async def done(self, keys: list[str]) -> None:
        """Forget batches. Raises Unavailable."""
        arguments: list[str | int] = []
        for key in keys:
            arguments += (key, self._sizes.pop(key, 0))
        await self._bridge.run(DONE, self._stream, self._held, _GROUP, *arguments)


@asynccontextmanager
async def open_redis_journal(
    url: str, sealer: Sealer, *, prefix: str = PREFIX, max_bytes: int = MAX_BYTES
) -> AsyncGenerator[RedisJournal, None]:
    """Open the journal that all conductors with this Redis and prefix share. Redis need not be there yet.

    It has connections of its own, because its reads wait. Raises ValueError for a URL that cannot be used.
    """
    async with open_bridge(url) as bridge:
        yield RedisJournal(bridge, prefix, sealer, max_bytes=max_bytes)


def _entries(reply: list[Any]) -> list[tuple[str, bytes]]:
    """Return what a reply holds; entries that were deleted come without their fields."""
    return [(entry[0].decode(), entry[1][1]) for entry in reply if entry and entry[1]]
