"""Sends for many links with one task: whatever they have gathered goes out once in a turn of the event loop.

Run by whoever holds many links: the relay for its tunnels and trunks, the conductor for its trunks. A link
that has one needs no writer task of its own, which an idle tunnel would keep for nothing, and a busy one
would have to wake for every message. Only what the system does not take at once gets a task, for as long as
that lasts.
"""

import trio

from whook.link.core import Link
from whook.link.wakeup import Wakeup


class Sender:
    """Sends what links hand to it."""

    __slots__ = ("_due", "_wakeup")

    def __init__(self) -> None:
        self._due: list[Link] = []
        self._wakeup = Wakeup()

    def add(self, link: Link) -> None:
        """Have the link's `flush` called in the next turn."""
        if not self._due:
            self._wakeup.wake()
        self._due.append(link)

    async def run(self) -> None:
        """Send for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._wakeup.wait()
                due, self._due = self._due, []
                for link in due:
                    rest = link.flush()
                    if rest is not None:
                        nursery.start_soon(link.send_slowly, *rest, name=f"{link.name} writer")
