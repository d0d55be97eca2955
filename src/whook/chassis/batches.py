"""Gathers calls made at the same time into one: a query for fifty names costs little more than for one.

Used by whoever asks a store or a service for one thing at a time on behalf of many tasks. It never waits for
company: a call alone goes out at once, and those that come while it is under way share the next one.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

K = TypeVar("K")
V = TypeVar("V")


class Batcher(Generic[K, V]):
    """Turns ``await ask(key)`` of many tasks into ``await work(keys)`` of few.

    Without a nursery one of the tasks that ask runs the batch, and the others wait for it. When that one is
    cancelled meanwhile, what it had taken is asked for again by another, so ``work`` must be safe to repeat.
    """

    def __init__(
        self,
        work: Callable[[Sequence[K]], Awaitable[Sequence[V | Exception]]],
        *,
        largest: int,
        at_once: int = 1,
        nursery: trio.Nursery | None = None,
    ) -> None:
        """``work`` returns for each key its value, or the exception that is to be raised there.

        What ``work`` raises is raised for every key of its batch. ``largest`` bounds a batch, ``at_once`` how
        many are under way. With ``nursery`` batches run there, where nobody who asks can cut them off: use it
        where strangers may.
        """
        self._work = work
        self._largest = largest
        self._at_once = at_once
        self._nursery = nursery
        self._waiting: deque[_Call[K, V]] = deque()
        self._running = 0

    @property
    def waiting(self) -> int:
        """Calls that are in no batch yet."""
        return len(self._waiting)

    async def ask(self, key: K) -> V:
        """Return what belongs to ``key``. Raises what ``work`` says."""
        call: _Call[K, V] = _Call(key)
        self._waiting.append(call)
        try:
            while not call.over:
                if self._running >= self._at_once or not self._waiting:
                    await call.wait()
                elif self._nursery is None:
                    await self._run(self._take())
                else:
                    self._nursery.start_soon(self._run, self._take(), name="batch")
        finally:
            if not call.over:  # cancelled, and it may have been this one's turn
                call.over = True  # nobody is to be woken for it, nor to ask for it again
                with contextlib.suppress(ValueError):
                    self._waiting.remove(call)
                self._wake_next()
        if call.failure is not None:
            raise call.failure
        return call.value

    def _take(self) -> list[_Call[K, V]]:
        """Begin a batch of the calls that have waited longest."""
        self._running += 1
        return [self._waiting.popleft() for _ in range(min(self._largest, len(self._waiting)))]

    async def _run(self, batch: list[_Call[K, V]]) -> None:
        try:
            found = await self._work([call.key for call in batch])
            for call, value in zip(batch, found, strict=True):
                call.end(value)
        except Exception as error:  # noqa: BLE001 - raised again in the task of each call
            for call in batch:
                call.end(error)
        finally:
            self._running -= 1
            # Cancelled: those that have not gone away themselves are asked for again.
            self._waiting.extendleft(call for call in reversed(batch) if not call.over)
            self._wake_next()

    def _wake_next(self) -> None:
        if self._waiting and self._running < self._at_once:
            self._waiting[0].wake()


class _Call(Generic[K, V]):
    """One task's question."""

    __slots__ = ("_event", "failure", "key", "over", "value")

    value: V

    def __init__(self, key: K) -> None:
        self.key = key
        self.over = False
        self.failure: Exception | None = None
        self._event = trio.Event()

    def end(self, value: V | Exception) -> None:
        self.over = True
        if isinstance(value, Exception):
            self.failure = value
        else:
            self.value = value
        self._event.set()

    def wake(self) -> None:
        """Let its task look again."""
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        if not self.over:
            self._event = trio.Event()
