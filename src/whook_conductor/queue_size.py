"""How much waits in the queue and for how long, read now and then for the metrics.

`QueueSize.run` is an infrastructure task of the service. It asks for sums only, and for the whole cluster: no
project is ever named. It must not matter to anything but the metrics.
"""

from __future__ import annotations

import random
import time
from typing import Final, NoReturn

import trio

from whook.backplane.ports import Queue, Unavailable
from whook.chassis.metrics import Publisher

INTERVAL: Final = 10.0
"""Seconds between two readings, give or take a fifth; it costs the queue one look at each backlog."""


class QueueSize:
    """What was read last."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.events = 0
        self.bytes = 0
        self.oldest_at = 0.0
        """Seconds since the epoch; 0 while nothing waits."""
        self.readable = True

    async def run(self) -> NoReturn:
        """Read for ever."""
        while True:
            try:
                await self.read()
            except Unavailable:
                self.readable = False  # whoever works with the queue logs it
            await trio.sleep(INTERVAL * random.uniform(0.8, 1.2))  # noqa: S311 - spreading load

    async def read(self) -> None:
        """Read once. Raises Unavailable."""
        backlogs = (await self._queue.backlogs()).values()
        self.events = sum(one.count for one in backlogs)
        self.bytes = sum(one.bytes for one in backlogs)
        self.oldest_at = min((one.oldest_at for one in backlogs if one.oldest_at), default=0.0)
        self.readable = True

    def age(self) -> float:
        """Return for how many seconds the first one waits now; 0 while nothing does."""
        return max(0.0, time.time() - self.oldest_at) if self.oldest_at else 0.0

    def publish(self, to: Publisher) -> None:
        """Publish it."""
        to.gauge("whook_queue_events", "Webhooks that wait, of the whole cluster.", lambda: self.events)
        to.gauge("whook_queue_bytes", "Bytes that they take, as counted for the limits.", lambda: self.bytes)
        to.gauge("whook_queue_oldest_seconds", "Age of the one that waits for the longest.", self.age)
        to.gauge("whook_queue_readable", "0 while the queue does not answer.", lambda: self.readable)
