"""Liveness of many links with one task: a link that has been silent is probed, then given up.

Run by whoever holds links: the relay for its tunnels and trunks, the conductor for its trunks, the CLI for
its own. Both ends do it, so both notice when the network just vanishes. Anything received counts as life, so
a busy link costs nothing.
"""

import time
from typing import Final

import trio

from whook.link.core import Link
from whook.wire import PING_FRAME

#: Sweeps per interval. With eight, an interval of 20 s gives up a silent peer between 25 and 27.5 s.
_TICKS: Final = 8
_PROBE_AT: Final = 7  #: silent ticks after which a probe is sent
_DEAD_AT: Final = 10  #: silent ticks after which the link is given up
#: Silent ticks a link is left with after the machine slept: two more sweeps to answer the probe.
_AFTER_SLEEP: Final = _DEAD_AT - 2


class Heartbeat:
    """Watches links. `interval` in seconds, as agreed in the introduction (HELLO)."""

    __slots__ = ("_links", "interval", "lag", "lost")

    def __init__(self, interval: float = 20.0) -> None:
        self.interval = interval
        self._links: set[Link] = set()
        self.lag = 0.0
        """Seconds by which the last sweep came late: as much later is a dead peer noticed."""
        self.lost = 0
        """Links given up because of their silence."""

    def add(self, link: Link) -> None:
        """Watch a link until it closes."""
        self._links.add(link)

    async def run(self) -> None:
        """Sweep for ever."""
        tick = self.interval / _TICKS
        lag = time.time() - trio.current_time()
        while True:
            due = trio.current_time() + tick
            await trio.sleep_until(due)
            self.lag = trio.current_time() - due
            # A monotonic clock stands still while a laptop sleeps; the wall clock tells.
            lag, before = time.time() - trio.current_time(), lag
            slept = lag - before > self.interval
            self._sweep(slept=slept)

    def _sweep(self, *, slept: bool) -> None:
        closed: list[Link] = []
        for link in self._links:
            if link.closed:
                closed.append(link)
            elif slept:
                link.heard = False
                link.silent_ticks = _AFTER_SLEEP
                link.send(PING_FRAME)
            elif link.heard:
                link.heard = False
                link.silent_ticks = 0
            else:
                link.silent_ticks += 1
                if link.silent_ticks == _PROBE_AT:
                    link.send(PING_FRAME)
                elif link.silent_ticks >= _DEAD_AT:
                    self.lost += 1
                    link.close(f"no sign of life for {link.silent_ticks * self.interval / _TICKS:.0f} s")
        self._links.difference_update(closed)
