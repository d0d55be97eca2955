"""The wish to stop: once to drain, twice to end now.

Owns the signals of the process. `whook connect`, `whook dev` and `whook serve` each make one `Stop` and run
their work inside it. A drain is an event that the work watches; only the second wish is a cancellation.
"""

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

from whook_cli.exits import Exit, ExitCode

SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)
"""Ctrl-C; what service managers send; Ctrl-Break and the closing of a console on Windows."""


class Stop:
    """Watched by the work: `wait` returns once it should come to an end."""

    def __init__(self, scope: trio.CancelScope | None = None) -> None:
        self._begun = trio.Event()
        self._scope = scope or trio.CancelScope()
        self.reason = ""

    @property
    def begun(self) -> bool:
        """Whether the work should come to an end."""
        return self._begun.is_set()

    @property
    def forced(self) -> bool:
        """Whether the work was cut off by a second wish."""
        return self._scope.cancelled_caught

    async def wait(self) -> None:
        """Wait for the wish to stop."""
        await self._begun.wait()

    def begin(self, reason: str) -> None:
        """Wish to stop; a second time, stop now."""
        if self._begun.is_set():
            self._scope.cancel(reason=reason)
        else:
            self.reason = reason
            self._begun.set()

    async def watch_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Begin at each signal, for ever."""
        with trio.open_signal_receiver(*SIGNALS) as received:
            task_status.started()
            async for number in received:
                self.begin(signal.Signals(number).name)


@asynccontextmanager
async def open_stop() -> AsyncGenerator[Stop]:
    """Watch the signals while the block runs; what is left of the block is cancelled by the second one.

    Look at `forced` afterwards: a block that was cut off ends without an exception.
    """
    scope = trio.CancelScope()
    stop = Stop(scope)
    async with trio.open_nursery() as nursery:
        await nursery.start(stop.watch_signals, name="signals")
        with scope:
            yield stop
        nursery.cancel_scope.cancel()


def cut_off() -> Exit:
    """How a command ends that was stopped by the second signal."""
    return Exit(ExitCode.INTERRUPTED, "stopped at once; requests in progress were cut off")
