"""How long the tests wait before they call something lost: one number, and waits on conditions under it.

Nothing here is a performance assertion: the deadline is generous, and only a hang meets it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE = float(os.environ.get("WHOOK_TEST_DEADLINE", "30"))
"""Seconds that a test waits for one condition before it fails."""


T = TypeVar("T")


class Gate:
    """A condition that one side of a test opens and the other waits for, always under the deadline."""

    def __init__(self, name: str = "gate") -> None:
        self._name = name
        self._event = threading.Event()

    @property
    def is_open(self) -> bool:
        """Whether the gate was opened."""
        return self._event.is_set()

    def open(self) -> None:
        """Let every waiter through, now and later."""
        self._event.set()

    def wait(self, seconds: float = DEADLINE) -> None:
        """Wait until the gate opens; raises TimeoutError at the deadline."""
        if not self._event.wait(seconds):
            raise TimeoutError(f"{self._name} was not opened within {seconds} s")


class Changing:
    """State that threads change and a test waits on: a condition variable with a deadline built in."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def __enter__(self) -> None:
        self._condition.acquire()

    def __exit__(self, *exc: object) -> None:
        """Every change made inside the block wakes the waiters."""
        self._condition.notify_all()
        self._condition.release()

    def wait_for(self, look: Callable[[], T | None], what: str, seconds: float = DEADLINE) -> T:
        """Wait until `look` gives something true; give that back. Raises TimeoutError naming `what`."""
        ends = time.monotonic() + seconds
        with self._condition:
            while not (found := look()):
                remaining = ends - time.monotonic()
                if remaining <= 0 or not self._condition.wait(remaining):
                    raise TimeoutError(f"{what}: not within {seconds} s")
            return found
