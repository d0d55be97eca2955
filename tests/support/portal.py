"""A Trio loop in a thread, for state machines of hypothesis, which are synchronous."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

import trio

from tests.support.deadlines import DEADLINE

R = TypeVar("R")
T = TypeVar("T")


class Portal(Generic[R]):
    """Holds something open in a Trio loop of its own; calls run there, one at a time."""

    opened: R

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[R]]) -> None:
        self._opening = opening
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._hold_open,), daemon=True)
        self._thread.start()
        assert self._ready.wait(DEADLINE)

    async def _hold_open(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._closing = trio.Event()
        async with self._opening() as self.opened:
            self._ready.set()
            await self._closing.wait()

    def call(self, function: Callable[..., Awaitable[T]], *args: Any, **named: Any) -> T:
        """Run an asynchronous function there and return what it returns."""

        async def run() -> T:
            with trio.fail_after(DEADLINE):
                return await function(*args, **named)

        return trio.from_thread.run(run, trio_token=self._token)

    def close(self) -> None:
        """Close what is open and end the loop."""
        trio.from_thread.run_sync(self._closing.set, trio_token=self._token)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
