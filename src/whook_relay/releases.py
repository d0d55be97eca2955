"""Routes of closed tunnels, released one after the other.

A tunnel that closes leaves its route here, which costs nothing; `run` releases them with few calls at once.
When thousands of tunnels close together, the directory thus has time for those that open. What it cannot take
now is tried again. Infrastructure of `whook_relay.service`.
"""

from __future__ import annotations

from typing import Final

import trio

from whook.backplane.ports import Directory, Unavailable
from whook.chassis.logs import get_logger

#: Calls under way at once: a quarter of what the directory takes, the rest is for tunnels that open.
AT_ONCE: Final = 2
#: Seconds to the next attempt when the directory does not answer.
_PAUSE: Final = 2.0

_log = get_logger("whook.relay.releases")


class Releases:
    """The routes that are to go, each once."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._waiting: dict[tuple[str, str], int] = {}
        self._news = trio.Event()
        self.released = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, project_id: str, generation: int, tunnel_id: str = "") -> None:
        """Have a route released. It is compared by its generation, so a newer one of the project stays.

        Generation 0 stands for a claim that was cut off and may have taken effect nevertheless.
        """
        key = (project_id, tunnel_id)
        self._waiting[key] = max(generation, self._waiting.get(key, 0))
        self._news.set()

    async def run(self) -> None:
        """Release routes for ever."""
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(self._release)

    async def _release(self) -> None:
        while True:
            while self._waiting:
                # The oldest first. Whoever takes it out is alone with it.
                key = next(iter(self._waiting))
                project_id, tunnel_id = key
                generation = self._waiting.pop(key)
                try:
                    await self._directory.release(
                        project_id, generation or await self._look_up(project_id, tunnel_id)
                    )
                    self.released += 1
                except Unavailable as error:
                    self.put(project_id, generation, tunnel_id)
                    _log.warning("routes not released yet", routes=len(self._waiting), error=str(error))
                    await trio.sleep(_PAUSE)
            if self._news.is_set():
                self._news = trio.Event()
            await self._news.wait()

    async def _look_up(self, project_id: str, tunnel_id: str) -> int:
        route = await self._directory.route(project_id)
        return route.generation if route is not None and route.tunnel_id == tunnel_id else 0
