"""A wake-up call for one waiting task, cheaper than an event made anew each time.

Used by the writer of a link and by each exchange. At most one task may wait.
"""

import trio


class Wakeup:
    """One task waits, anyone wakes; a call that comes before the wait is remembered."""

    __slots__ = ("_due", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._due = False

    def wake(self) -> None:
        """Let the waiting task go on, or the next one not wait at all."""
        task = self._task
        if task is None:
            self._due = True
        else:
            self._task = None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> None:
        """Wait for a call. Always a checkpoint."""
        if self._due:
            await trio.lowlevel.checkpoint()
            self._due = False
            return
        if self._task is not None:
            raise trio.BusyResourceError("another task waits for this call already")
        self._task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
