"""What waits for one subscriber of the bus: bounded, and honest about what did not fit.

The bus puts, synchronously; one reader takes. It must never make the bus wait.
"""

from __future__ import annotations

import math
from collections import deque

import trio

from whook.backplane.ports import BusGap

TURN = 32
"""Messages that a reader takes before other tasks get their turn: one each would cost more than the
messages."""


class Mailbox:
    """A Subscription: the messages that came and were not read yet, or a gap."""

    __slots__ = ("_gap", "_messages", "_news", "_size", "_taken")

    def __init__(self, size: int) -> None:
        if not 1 <= size < math.inf:
            raise ValueError("a subscriber's buffer must be bounded and hold at least one message")
        self._size = size
        self._messages: deque[tuple[str, bytes]] = deque()
        self._gap = False
        self._news = trio.Event()
        self._taken = 0

    def put(self, topic: str, message: bytes) -> None:
        """Add a message; one too many is a gap. What follows an unread gap is covered by it."""
        if self._gap:
            return
        if len(self._messages) >= self._size:
            self.gap()
            return
        self._messages.append((topic, message))
        self._news.set()

    def gap(self) -> None:
        """Let the reader know that it may miss something, instead of all that it has not read yet."""
        self._messages.clear()
        self._gap = True
        self._news.set()

    def __aiter__(self) -> Mailbox:
        return self

    async def __anext__(self) -> tuple[str, bytes]:
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._gap and not self._messages:
            self._news = trio.Event()
            await self._news.wait()
        self._taken += 1
        try:
            if self._gap:
                self._gap = False
                raise BusGap
            return self._messages.popleft()
        finally:
            if self._taken % TURN == 0:
                # Shielded, because a reader that is cancelled here would lose what it has taken.
                await trio.lowlevel.cancel_shielded_checkpoint()
