"""The queue on Redis, for all conductors of a cluster: every call is one script, so one step for everybody.

Opened by the composition root, which hands it to the conductor. The layout is described in
``lua/queue/prelude.lua``. It must never let an append succeed on a Redis that could lose it.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, cast

import msgspec

from whook.backplane.envelope import pack, unpack
from whook.backplane.ports import (
    TOPIC_BACKLOG,
    Backlog,
    Batch,
    Bus,
    Limit,
    NotOwner,
    Origin,
    Ownership,
    Queued,
    QueueFull,
    QueueLimits,
    StoredEvent,
    Unavailable,
)
from whook.backplane.redis import scripts
from whook.backplane.redis.backplane import PREFIX
from whook.backplane.redis.bridge import Argument, Bridge, open_bridge
from whook.backplane.redis.clock import RedisClock
from whook.backplane.redis.durability import DURABLE, Durability
from whook.backplane.redis.scripts import Script
from whook.chassis.logs import get_logger
from whook.chassis.sealing import Sealer

SNAPSHOT_BATCH: Final = 250
"""Projects read by one script."""

_json = msgspec.json.Encoder()
_log = get_logger("whook.backplane.redis")


class RedisQueue:
    """The Queue of all processes on one Redis. Leases and delays follow its clock."""

    def __init__(
        self,
        bridge: Bridge,
        sealer: Sealer,
        *,
        prefix: str = PREFIX,
        durability: Durability = "check",
        bus: Bus | None = None,
    ) -> None:
        """Make it for an open bridge; with a ``bus`` it publishes there, and otherwise on this Redis."""
        self._bridge = bridge
        self._sealer = sealer
        self._prefix = prefix
        self._durability = durability
        self._bus = bus
        self._clock = RedisClock()
        self._highest = 0

    async def append(
        self, event: StoredEvent, limits: QueueLimits, *, origin: Origin = "buffered", attempts: int = 0
    ) -> None:
        """Store an event at the end of its project's backlog. Raises QueueFull."""
        envelope = pack(event, self._sealer)
        result, *limit = await self._run(
            scripts.QUEUE_APPEND,
            event.project_id,
            _json.encode(event.project),
            event.id,
            origin,
            attempts,
            _number(event.received_at) if origin == "buffered" else "",
            envelope.size,
            event.body_size,
            envelope.payload,
            limits.project_count,
            limits.project_bytes,
            _number(limits.project_age),
            limits.total_count,
            limits.total_bytes,
            durable=True,
        )
        if result == b"full":
            raise QueueFull(cast("Limit", limit[0].decode()))

    async def backlog(self, project_id: str) -> Backlog:
        """Return what of the project waits."""
        return _backlog(await self._run(scripts.QUEUE_BACKLOG, project_id))

    async def backlogs(self) -> dict[str, Backlog]:
        """Return every project of which something waits.

        Read in batches: what changes meanwhile may be in it or not, and is published to those who subscribed.
        """
        found: dict[str, Backlog] = {}
        cursor = b"0"
        while True:
            cursor, *fields = await self._run(scripts.QUEUE_BACKLOGS, cursor, SNAPSHOT_BATCH)
            for index in range(0, len(fields), 4):
                found[fields[index].decode()] = _backlog(fields[index + 1 : index + 4])
            if cursor == b"0":
                return {project_id: backlog for project_id, backlog in found.items() if backlog.count}

    async def version(self) -> int:
        """Return the number of the last BacklogSet or BacklogGone."""
        [version] = await self._run(scripts.QUEUE_VERSION)
        return self._seen(version)

    async def attend(self, owner: str, ttl: float) -> bool:
        """Take or renew a lease; return True if it was renewed. Raises ValueError for an impossible ttl."""
        if not 0 < ttl < math.inf:
            raise ValueError(f"a lease must last longer than 0 s and end some time, not {ttl} s")
        [renewed] = await self._run(scripts.QUEUE_ATTEND, owner, math.ceil(ttl * 1000))
        return renewed == b"1"

    async def leave(self, owner: str) -> None:
        """End a lease and the ownerships that hang on it."""
        await self._run(scripts.QUEUE_LEAVE, owner)

    async def acquire(self, project_id: str, owner: str) -> Ownership | None:
        """Begin an ownership, unless another owner's stands. Raises NotOwner."""
        result, *fence = await self._run(scripts.QUEUE_ACQUIRE, project_id, owner)
        if result == b"lost":
            raise NotOwner(project_id)
        if result == b"held":
            return None
        return Ownership(project_id=project_id, owner=owner, fence=self._seen(fence[0]))

    async def release(self, ownership: Ownership) -> None:
        """End an ownership if it stands."""
        await self._run(scripts.QUEUE_RELEASE, ownership.project_id, ownership.owner, ownership.fence)

    async def read(self, ownership: Ownership, *, limit: int, max_bytes: int, in_order: bool) -> Batch:
        """Give out the next events. Raises NotOwner."""
        next_due, *fields = await self._run_owned(
            scripts.QUEUE_READ, ownership, limit, max_bytes, int(in_order)
        )
        entries: list[Queued] = []
        sealed: Unavailable | None = None
        for index in range(0, len(fields), 6):
            position, event_id, origin, attempt, failures, payload = fields[index : index + 6]
            try:
                event = unpack(payload, event_id.decode(), self._sealer)
            except Unavailable as error:
                sealed = error
                break
            entries.append(
                Queued(
                    position=position.decode(),
                    event=event,
                    origin=cast("Origin", origin.decode()),
                    attempt=int(attempt),
                    failures=int(failures),
                )
            )
        if sealed is not None:
            # It and what is behind it wait for the key; what is before it can be delivered.
            for position in fields[6 * len(entries) :: 6]:
                await self._run_owned(scripts.QUEUE_DEFER, ownership, position, "0", 0)
            if not entries:
                raise sealed
        return Batch(entries, float(next_due) if next_due else None)

    async def settle(self, ownership: Ownership, positions: list[str]) -> Backlog:
        """Remove events; return what is left. Raises NotOwner."""
        known = [position for position in positions if _is_position(position)]
        return _backlog(await self._run_owned(scripts.QUEUE_SETTLE, ownership, *known))

    async def defer(self, ownership: Ownership, position: str, *, until: float, failed: bool) -> None:
        """Give an event back until later. Raises NotOwner."""
        place = position if _is_position(position) else "0"
        await self._run_owned(scripts.QUEUE_DEFER, ownership, place, _number(until), int(failed))

    async def remember(self, key: str, seconds: float, *, settled: bool) -> Literal["new", "running", "done"]:
        """Note a delivery id; return what was known of it."""
        milliseconds = max(1, math.ceil(seconds * 1000))
        [known] = await self._run(scripts.QUEUE_REMEMBER, key, milliseconds, int(settled))
        return cast('Literal["new", "running", "done"]', known.decode())

    async def forget(self, key: str) -> None:
        """Take back a claim that is not settled."""
        await self._run(scripts.QUEUE_FORGET, key)

    async def _run_owned(self, script: Script, ownership: Ownership, *arguments: Argument) -> list[bytes]:
        """Run a script that checks the fence; return what it returns beside. Raises NotOwner."""
        result, *reply = await self._run(
            script, ownership.project_id, ownership.owner, ownership.fence, *arguments
        )
        if result == b"lost":
            raise NotOwner(ownership.project_id)
        return reply

    async def _run(self, script: Script, *arguments: Argument, durable: bool = False) -> list[bytes]:
        here = int(self._bus is None)
        everything = (self._prefix, self._highest, self._clock.latest(), here, *arguments)
        check = DURABLE if durable and self._durability == "check" else None
        reply = await self._bridge.run(script, *everything, check=check)
        self._clock.heard(int(reply[0]))
        if len(reply) == 1:
            raise Unavailable("Redis has not come to it in time")
        if reply[1] and self._bus is not None:
            try:
                await self._bus.publish(TOPIC_BACKLOG, reply[1])
            except Unavailable as error:
                # Subscribers get a gap, and read anew.
                _log.debug("backlog not published", error=str(error))
        return reply[2:]

    def _seen(self, number: bytes) -> int:
        self._highest = max(self._highest, int(number))
        return int(number)


@asynccontextmanager
async def open_redis_queue(
    url: str,
    *,
    prefix: str = PREFIX,
    sealer: Sealer | None = None,
    durability: Durability = "check",
    bus: Bus | None = None,
) -> AsyncGenerator[RedisQueue, None]:
    """Open the queue of all processes with the same Redis and prefix, on connections of its own.

    ``url`` is as that of a backplane; Redis need not be there yet. Give the ``bus`` if it is not on the same
    Redis with the same prefix. Without a ``sealer`` it stores plainly. Raises ValueError for a URL that
    cannot be used.
    """
    async with open_bridge(url) as bridge:
        yield RedisQueue(bridge, sealer or Sealer(), prefix=prefix, durability=durability, bus=bus)


def _backlog(fields: Sequence[bytes]) -> Backlog:
    count, size, oldest_at = fields
    return Backlog(count=int(count), bytes=int(size), oldest_at=float(oldest_at))


def _number(value: float) -> str:
    """Return a number of seconds as Redis and Lua read it."""
    return repr(float(value)) if math.isfinite(value) else "1e300" if value > 0 else "-1e300"


def _is_position(position: str) -> bool:
    return position.isascii() and position.isdigit() and len(position) < 17
