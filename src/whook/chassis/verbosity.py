"""How much a process logs just now: the lowest level, and of which exchanges there is a line.

One object for the process, because its logs are one stream. `logs` sets it from the settings, the admin port
changes it while the daemon runs; whatever may log an exchange asks `VERBOSITY.exchanges` first, which is all
that it costs while it is off. Must never decide differently for the same event in two processes.
"""

from __future__ import annotations

import logging
import zlib
from typing import Final, Literal, get_args

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)

_WHOLE: Final = 1 << 32


class Verbosity:
    """The lowest level that is logged, and the share of exchanges that get a line each."""

    __slots__ = ("_level", "_share", "exchanges", "number")

    def __init__(self) -> None:
        self.number = logging.INFO
        """The level as the standard library counts."""
        self.exchanges = False
        """Whether any exchange gets a line because it was chosen: all at debug, else the share."""
        self._level: Level = "info"
        self._share = 0.0

    @property
    def level(self) -> Level:
        """The lowest level that is logged."""
        return self._level

    @level.setter
    def level(self, level: Level) -> None:
        self._level = level
        self.number = logging.getLevelNamesMapping()[level.upper()]
        # Libraries log their routine at INFO, which is of interest only while debugging.
        library = logging.INFO if level == "debug" else max(self.number, logging.WARNING)
        logging.getLogger().setLevel(library)
        self._decide()

    @property
    def share(self) -> float:
        """The share of exchanges that get a line, 0 to 1."""
        return self._share

    @share.setter
    def share(self, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError("a share is a number from 0 to 1")
        self._share = share
        self._decide()

    def _decide(self) -> None:
        self.exchanges = self._share > 0 or self._level == "debug"

    def chosen(self, event_id: str) -> bool:
        """Whether this event's exchanges get a line.

        The event's id alone decides among those of a share, so that conductor and relay choose the same ones.
        """
        if not self.exchanges:
            return False
        return self._level == "debug" or zlib.crc32(event_id.encode()) < self._share * _WHOLE


VERBOSITY: Final = Verbosity()
"""That of this process."""
