"""Drain: the request to finish up, which is an event and not a cancellation.

run_daemon owns the one of a process and begins it at the first signal; every service watches it. What is
still running at its deadline is cancelled by whoever runs it. Nothing here cancels anything.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

DEFAULT_GRACE = 25.0
"""Seconds from the beginning of a drain to its deadline: below the 30 s that most supervisors wait."""


class Drain:
    """Begins at most once and is never taken back.

    ``grace`` is the time in seconds from its beginning to its deadline.
    """

    __slots__ = ("_event", "announced", "deadline", "grace", "reason")

    def __init__(self, grace: float = DEFAULT_GRACE) -> None:
        self.grace = grace
        self.deadline = math.inf
        """When to cancel what is left, in Trio's time; infinity until the drain has begun."""
        self.reason = ""
        self.announced = False
        """Whether to tell those whom one serves that it is for the last time: from the beginning at the
        latest, earlier where `announce` says so."""
        self._event = trio.Event()

    @property
    def begun(self) -> bool:
        """Whether to refuse new work."""
        return self._event.is_set()

    @property
    def late(self) -> bool:
        """Whether less than half of the grace is left, so that what begins now might not be finished."""
        return self.begun and trio.current_time() > self.deadline - self.grace / 2

    def announce(self) -> None:
        """Say that the drain is going to begin."""
        self.announced = True

    def begin(self, reason: str) -> None:
        """Begin the drain. Later calls change nothing: the first reason and the first deadline stand."""
        if self._event.is_set():
            return
        self.reason = reason
        self.announced = True
        self.deadline = trio.current_time() + self.grace
        self._event.set()

    async def wait(self) -> None:
        """Wait until the drain has begun."""
        await self._event.wait()

    @asynccontextmanager
    async def patience(self, seconds: float) -> AsyncGenerator[None]:
        """Let the block wait for so long at most, and not beyond the beginning of the drain; then go on."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cut_short, nursery.cancel_scope)
            nursery.cancel_scope.deadline = trio.current_time() + seconds
            yield
            nursery.cancel_scope.cancel(reason="what was waited for is there")

    async def _cut_short(self, scope: trio.CancelScope) -> None:
        await self._event.wait()
        scope.cancel(reason="the drain has begun")
