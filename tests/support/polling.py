"""Waiting for what another program does on its own: it tells nobody, so it can only be asked again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tests.support.deadlines import DEADLINE

T = TypeVar("T")

INTERVAL = 0.05
"""Seconds between two looks."""


def wait_until(look: Callable[[], T | None], what: str, seconds: float = DEADLINE) -> T:
    """Wait until `look()` gives something true; give that. Raises TimeoutError naming `what`."""
    ends = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() >= ends:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(INTERVAL)
    return found
