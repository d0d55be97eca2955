"""Clocks that a test moves, for code that asks for the time of day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class WallClock:
    """Tells the time in UTC: the real one, plus what a test has added."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead
