"""The bus on Redis pub/sub: one connection for the process, and a mailbox for each subscriber.

Owns that connection: opens it, watches over it and opens it again. Called by the services of this process.
Redis holds nothing back for a connection that is lost, so every new one is a gap for every subscriber. It
must never let a subscriber believe that it is up to date when it may not be.

The connection hears all topics: which of them somebody here wants is known here alone, so that subscribing
changes nothing in Redis. It is silent for `PING_SECONDS` at most, because it is asked to say something then.
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from whook.backplane.ports import KEPT, Unavailable
from whook.backplane.redis import scripts
from whook.backplane.redis.bridge import CALL_SECONDS, Bridge, Feed, Message
from whook.backplane.redis.mailbox import Mailbox
from whook.chassis.logs import get_logger

SUBSCRIBER_BUFFER = 4096
"""Messages a subscriber may lag behind, as on the bus in memory: 1.2 MB at worst."""

PING_SECONDS = 3.0
"""Between two signs of life that the connection is asked for."""

SILENCE_SECONDS = 6.0
"""Without a sign of life for so long the connection is given up. Subscribers learn of it when the first
attempt to open another has failed as well, hence after 8.1 s."""

_FIRST_PAUSE = 0.1
_LEAST_PAUSE = 0.02
_LONGEST_PAUSE = 2.0
"""Bounds of the pauses between attempts, in seconds: Redis that is back is found at once, but not by all at
once."""

_log = get_logger("whook.backplane.redis")


class RedisBus:
    """The Bus of all processes on one Redis."""

    def __init__(self, bridge: Bridge, prefix: str, *, buffer: int = SUBSCRIBER_BUFFER) -> None:
        self._bridge = bridge
        self._prefix = prefix.encode()
        self._channels = self._prefix + b"bus:"
        self._buffer = buffer
        self._subscriptions: defaultdict[str, list[Mailbox]] = defaultdict(list)
        self._feed: Feed | None = None
        self._silence = trio.CancelScope()
        self._asked = 0
        self._answered = 0
        self._ask = trio.Event()
        self._answer = trio.Event()
        self._failures = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection, for ever; started after the first attempt to open it, whatever came of it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ping, name="redis ping")
            await self._keep_connected(task_status)

    async def publish(self, topic: str, message: bytes, *, keep: float = 0.0) -> None:
        """Publish to all processes. Raises Unavailable; the message may then have been published or not."""
        channel = self._channels + topic.encode()
        if keep > 0:
            milliseconds = math.ceil(keep * 1000)
            await self._bridge.run(scripts.KEEP, self._kept(topic), channel, message, milliseconds, KEPT)
        else:
            await self._bridge.publish(channel, message)

    async def kept(self, topic: str) -> list[bytes]:
        """Return what Redis keeps of a topic, the earliest end first. Raises Unavailable."""
        return await self._bridge.run(scripts.KEPT, self._kept(topic))

    def _kept(self, topic: str) -> bytes:
        return self._prefix + b"kept:" + topic.encode()

    @asynccontextmanager
    async def subscribe(self, *topics: str) -> AsyncGenerator[Mailbox, None]:
        """Subscribe while the context is open.

        It can be entered while Redis cannot be reached; when that is over there is a gap. Never raises
        Unavailable.
        """
        if not topics:
            raise ValueError("a subscription needs a topic")
        mailbox = Mailbox(self._buffer)
        await self._catch_up()
        for topic in set(topics):
            self._subscriptions[topic].append(mailbox)
        try:
            yield mailbox
        finally:
            for topic in set(topics):
                self._subscriptions[topic].remove(mailbox)
                if not self._subscriptions[topic]:
                    del self._subscriptions[topic]

    async def _catch_up(self) -> None:
        """Wait until everything published before this call has been heard, while the connection lasts."""
        feed, wanted = self._feed, self._asked + 1
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(CALL_SECONDS):
            while feed is not None and feed is self._feed and self._answered < wanted:
                self._ask.set()
                await self._answer.wait()

    async def _keep_connected(self, task_status: trio.TaskStatus[None]) -> None:
        started = told = False
        while True:
            try:
                async with self._bridge.open_feed(_literal(self._channels) + b"*") as feed:
                    if told:
                        _log.info("the bus is connected to Redis again")
                    told = False
                    self._connected(feed)
                    if not started:
                        started = True
                        task_status.started()
                    await self._follow(feed)
            except Unavailable as error:
                # One that was there and is lost gets one more attempt before anybody is troubled.
                if not told and self._failures:
                    told = True
                    self._gap()
                    _log.warning("the bus is cut off from Redis", error=str(error))
            if not started:
                started = True
                task_status.started()
            await self._pause()

    def _connected(self, feed: Feed) -> None:
        self._feed = feed
        self._gap()

    async def _follow(self, feed: Feed) -> None:
        """Read until the connection is lost or silent. Raises Unavailable."""
        opened = trio.current_time()
        self._silence = trio.CancelScope(deadline=opened + SILENCE_SECONDS)
        try:
            with self._silence:
                await feed.read(self._deliver)
            raise Unavailable(f"Redis has been silent for {SILENCE_SECONDS:g} s")
        finally:
            self._feed = None
            self._wake()
            # One that is lost at once, again and again, is no success: the pauses go on growing.
            if trio.current_time() - opened > SILENCE_SECONDS:
                self._failures = 0

    def _deliver(self, message: Message) -> None:
        self._silence.deadline = trio.current_time() + SILENCE_SECONDS
        if message[0] == b"pong":
            self._answered = int(message[1])
            self._wake()
        elif message[0] == b"pmessage":
            topic = message[2][len(self._channels) :].decode(errors="replace")
            for mailbox in self._subscriptions.get(topic, ()):
                mailbox.put(topic, message[3])

    async def _ping(self) -> None:
        """Send every ping, for ever: those that are due and those that are asked for."""
        while True:
            with trio.move_on_after(PING_SECONDS):
                await self._ask.wait()
            self._ask = trio.Event()
            if self._feed is not None:
                self._asked += 1
                try:
                    await self._feed.ping(b"%d" % self._asked)
                except Unavailable as error:
                    # Whoever reads the same connection learns of it and opens another.
                    _log.debug("ping not sent", error=str(error))

    def _wake(self) -> None:
        self._answer.set()
        self._answer = trio.Event()

    def _gap(self) -> None:
        for mailboxes in self._subscriptions.values():
            for mailbox in mailboxes:
                mailbox.gap()

    async def _pause(self) -> None:
        """Sleep before the next attempt: full jitter under a bound that doubles."""
        bound = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures, 8))
        self._failures += 1
        await trio.sleep(random.uniform(_LEAST_PAUSE, bound))  # noqa: S311 - spreads load, keeps no secret


def _literal(channels: bytes) -> bytes:
    """Return the pattern that matches these bytes only (redis.io/commands/psubscribe)."""
    return re.sub(rb"([*?\[\\])", rb"\\\1", channels)
