"""Tells systemd how the daemon is doing (sd_notify(3)). A screenful instead of a dependency.

run_daemon calls it. Without systemd, or when it cannot be reached, every call does nothing: a daemon must
never fail or wait because of its supervisor.
"""

from __future__ import annotations

import os
import socket

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def notify(*assignments: str) -> bool:
    """Send ``assignments`` (such as ``READY=1``) in one message, and return whether it left."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    address = "\0" + path[1:] if path.startswith("@") else path  # "@" stands for the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto("\n".join(assignments).encode(), address)
    except OSError:
        return False
    return True


def watchdog_seconds() -> float | None:
    """Return how often to send ``WATCHDOG``, or None if nobody watches (sd_watchdog_enabled(3)).

    It is half of the time after which systemd would act.
    """
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or int(microseconds) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 2e6
