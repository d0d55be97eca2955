"""Cancels something at one scheduler step after the other, so that no phase of it is missed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class _AtStep(trio.abc.Instrument):
    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self._left = step
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel(reason="the step of the test")


async def finishes_before(step: int, body: Callable[[], Awaitable[object]]) -> bool:
    """Run `body`, cancelled at that step of whatever task; return whether it had finished by then."""
    with trio.CancelScope() as scope:
        instrument = _AtStep(step, scope)
        trio.lowlevel.add_instrument(instrument)
        try:
            await body()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return not scope.cancel_called


async def cancelled_at_every_step(body: Callable[[], Awaitable[object]]) -> int:
    """Run `body` again and again, cancelled one step later each time, until it finishes; count the runs."""
    step = 1
    while not await finishes_before(step, body):
        step += 1
    return step
