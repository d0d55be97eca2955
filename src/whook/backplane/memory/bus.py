"""The bus in memory: one bounded buffer for each subscriber.

Owns the buffers. Called by the twins of this process and by its services. Publishing never waits: a buffer
that is full turns into a gap, and its reader reloads what it mirrors.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from whook.backplane.ports import KEPT, BusGap

SUBSCRIBER_BUFFER = 4096
"""Messages a subscriber may lag behind.

A relay that comes back claims its tunnels in bursts of a few hundred per scheduler pass; this holds several
such bursts at about 300 bytes a message, hence 1.2 MB at worst. Beyond that one snapshot is cheaper to read
than the backlog.
"""


class _Subscription:
    """A bounded channel, and whether something did not fit into it."""

    __slots__ = ("_gap", "_receive", "_send")

    def __init__(self, buffer: int) -> None:
        if not 1 <= buffer < math.inf:
            raise ValueError("a subscriber's buffer must be bounded and hold at least one message")
        channels = trio.open_memory_channel[tuple[str, bytes]](buffer)
        self._send, self._receive = channels
        self._gap = False

    def put(self, topic: str, message: bytes) -> None:
        if self._gap:
            return
        try:
            self._send.send_nowait((topic, message))
        except trio.WouldBlock:
            self._gap = True

    def __aiter__(self) -> _Subscription:
        return self

    async def __anext__(self) -> tuple[str, bytes]:
        if self._gap:
            await trio.lowlevel.checkpoint()
            self._forget()
            raise BusGap
        return await self._receive.receive()

    def _forget(self) -> None:
        """Drop what is buffered: the snapshot that the reader loads next is newer than all of it."""
        self._gap = False
        while self._receive.statistics().current_buffer_used:
            self._receive.receive_nowait()


class MemoryBus:
    """The Bus of one process."""

    def __init__(self, *, buffer: int = SUBSCRIBER_BUFFER) -> None:
        self._buffer = buffer
        self._subscriptions: defaultdict[str, list[_Subscription]] = defaultdict(list)
        self._kept: defaultdict[str, dict[bytes, float]] = defaultdict(dict)
        """By topic the messages that are kept, and until when in Trio's time."""

    async def publish(self, topic: str, message: bytes, *, keep: float = 0.0) -> None:
        """Hand ``message`` to the subscribers of ``topic``, and keep it for so many seconds."""
        await trio.lowlevel.checkpoint()
        if keep > 0:
            kept = self._kept[topic]
            kept[message] = trio.current_time() + keep
            self._prune(kept)
        self.publish_nowait(topic, message)

    async def kept(self, topic: str) -> list[bytes]:
        """Return what is kept of a topic, the earliest end first."""
        await trio.lowlevel.checkpoint()
        kept = self._kept[topic]
        self._prune(kept)
        return sorted(kept, key=kept.__getitem__)

    def _prune(self, kept: dict[bytes, float]) -> None:
        now = trio.current_time()
        for message in [message for message, end in kept.items() if end <= now]:
            del kept[message]
        if len(kept) > KEPT:
            for message in sorted(kept, key=kept.__getitem__)[:-KEPT]:
                del kept[message]

    def publish_nowait(self, topic: str, message: bytes) -> None:
        """Do as `publish`, for a twin that changes its state and publishes it in one step."""
        for subscription in self._subscriptions.get(topic, ()):
            subscription.put(topic, message)

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncGenerator[_Subscription, None]:
        """Subscribe while the context is open."""
        if not topics:
            raise ValueError("a subscription needs a topic")
        subscription = _Subscription(self._buffer)
        await trio.lowlevel.checkpoint()
        for topic in set(topics):
            self._subscriptions[topic].append(subscription)
        try:
            yield subscription
        finally:
            for topic in set(topics):
                self._subscriptions[topic].remove(subscription)
                if not self._subscriptions[topic]:
                    del self._subscriptions[topic]
