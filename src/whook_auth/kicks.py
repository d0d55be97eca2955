"""What auth tells relays to close, and that none of it gets lost on the way.

A Kick is published and kept on the bus until the last tunnel token that was minted before it has ended, so
that a relay that missed it reads it later. Each auth process remembers the same: its own kicks and those that
it hears of. When the bus may have lost something (Redis was out of reach, or has restarted empty) it puts
back what is missing there. A Kick is thus lost only with the bus's memory and every auth process that knew of
it; then the tunnel goes on until its token ends, as long as `open_auth` lets it live.

Owned by `service`; run by `server`. It must never decide who loses a right.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog
import trio

from whook.backplane.ports import (
    CLOCKS_DIFFER,
    TOPIC_KICK,
    Bus,
    BusGap,
    Kick,
    RecentKicks,
    Unavailable,
    decode_kick,
    encode_event,
)
from whook.chassis.tunnel_token import LEEWAY

RETRY: Final = 1.0
"""Seconds to the next attempt while the bus is away."""

_log = structlog.get_logger("whook.auth.kicks")


class Kicks:
    """The kicks of one auth process."""

    def __init__(self, bus: Bus, *, lifetime: timedelta, now: Callable[[], datetime]) -> None:
        """``lifetime`` is the longest that a tunnel token lives, ``now`` tells the time in UTC."""
        self._bus = bus
        self._lifetime = lifetime.total_seconds() + LEEWAY + CLOCKS_DIFFER
        self._now = now
        self._recent = RecentKicks()
        self._behind = trio.Event()
        self.sent = 0
        """Kicks that this process was asked to send."""

    async def send(self, kick: Kick) -> None:
        """Have every relay close the tunnels that are meant.

        Raises Unavailable if the bus is away: it is told all the same, as soon as the bus is back.
        """
        now = self._now().timestamp()
        kick = msgspec.structs.replace(kick, at=now, until=now + self._lifetime)
        self._recent.note(kick, now)
        self.sent += 1
        sent = False
        try:
            await self._publish(kick, now)
            sent = True
        finally:
            if not sent:  # also when the caller was cancelled
                self._behind.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the kicks of other auth processes and put back what the bus has lost, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_up, name="lost kicks")
            while True:
                try:
                    async with self._bus.subscribe(TOPIC_KICK) as news:
                        task_status.started()
                        task_status = trio.TASK_STATUS_IGNORED
                        self._behind.set()
                        while True:
                            try:
                                async for _, message in news:
                                    self._hear(message)
                            except BusGap:
                                self._behind.set()
                                await trio.lowlevel.checkpoint()
                except Unavailable as error:
                    _log.warning("cannot follow the kicks of others", error=str(error))
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await trio.sleep(RETRY)

    async def _keep_up(self) -> None:
        while True:
            await self._behind.wait()
            self._behind = trio.Event()
            try:
                await self._reconcile()
            except Unavailable as error:
                _log.warning("kicks not told yet", kicks=len(self._recent), error=str(error))
                self._behind.set()
                await trio.sleep(RETRY)

    async def _reconcile(self) -> None:
        """Learn what the bus keeps, and publish again what it does not."""
        kept = set(await self._bus.kept(TOPIC_KICK))
        for message in kept:
            self._hear(message)
        now = self._now().timestamp()
        missing = [kick for kick in self._recent.standing(now) if encode_event(kick) not in kept]
        for kick in missing:
            await self._publish(kick, now)
        if missing:
            _log.info("kicks that the bus had lost are told again", kicks=len(missing))

    def _hear(self, message: bytes) -> None:
        kick = decode_kick(message)
        if kick is not None:
            self._recent.note(kick, self._now().timestamp())

    async def _publish(self, kick: Kick, now: float) -> None:
        await self._bus.publish(TOPIC_KICK, encode_event(kick), keep=kick.until - now)
