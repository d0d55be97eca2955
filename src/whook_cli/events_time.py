"""Points in time as people write them (`2h`, `2026-11-23T20:00`), and the pace of a replay (`1x`, `max`).

Used by the commands about events. Pure, but for the present time, which is an argument.
"""

import math
import re
from datetime import datetime, timedelta

from whook_cli.exits import UsageError

_AGO = re.compile(r"(\d{1,6})([smhdw])\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPEED = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)x\Z")


def parse_time(text: str, option: str, now: datetime) -> datetime:
    """Read a time: so long before `now`, or ISO 8601; without an offset it is local. Raises `UsageError`."""
    if ago := _AGO.match(text.strip().lower()):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        hint = "write 30s, 15m, 2h, 3d, 1w, or 2026-11-23T20:00"
        raise UsageError(f"{option} {text!r} is no time", hint=hint) from None


def parse_speed(text: str) -> float:
    """Read a pace: how many times faster than it was, infinity for `max`. Raises `UsageError`."""
    wanted = text.strip().lower()
    if wanted == "max":
        return math.inf
    if (found := _SPEED.match(wanted)) and float(found[1]) > 0:
        return float(found[1])
    raise UsageError(f"--speed {text!r} is no pace", hint="write 1x, 2x, 0.5x or max")
