"""Resident memory of processes over time, read from /proc by a thread while a scenario runs.

Used by `slow`, `stream` and `backlog`. Judges nothing; what is flat and what is not, the scenarios say.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from bench.figures import Series, Where
from bench.process import resident_of

MIB = 1_048_576


class Sampler:
    """Samples for as long as its block runs.

    Attributes:
        points: by process, pairs of seconds since the beginning and MiB of resident memory.
    """

    def __init__(self, pids: dict[str, int], every: float = 0.1) -> None:
        self._pids = pids
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._began = time.monotonic()
        self.points: dict[str, list[tuple[float, float]]] = {name: [] for name in pids}

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self._sample()

    def _sample(self) -> None:
        now = time.monotonic() - self._began
        for name, pid in self._pids.items():
            try:
                self.points[name].append((round(now, 3), resident_of(pid) / MIB))
            except OSError:
                continue  # ended; the scenario will notice by itself

    def first(self, name: str) -> float:
        """MiB at the beginning."""
        return self.points[name][0][1]

    def most(self, name: str) -> float:
        """MiB at the most."""
        return max(memory for _, memory in self.points[name])

    def growth_after(self, name: str, share: float) -> float:
        """MiB by which the process grew beyond what it had reached when this share of the time was over."""
        points = self.points[name]
        end = points[-1][0] * share
        early = max(memory for at, memory in points if at <= end)
        return max(0.0, self.most(name) - early)

    def series(self, **where: str | float) -> list[Series]:
        """Give a curve for each process."""
        found: list[Series] = []
        for name, points in self.points.items():
            of: Where = {**where, "process": name}
            found.append(Series("resident memory", "s", "MiB", of, points))
        return found
