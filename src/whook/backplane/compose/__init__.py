"""What the composition roots of the daemons have in common: settings, twins by URL, the command line.

Imported by ``whook_<service>.main``, and by the all-in-one server for its twins. A twin is imported when a
URL asks for it, so that no daemon needs what it does not use.
"""

from whook.backplane.compose.command import Command, Configured
from whook.backplane.compose.factory import (
    check_backplane_url,
    check_queue_url,
    open_backplane,
    open_journal,
    open_queue,
)
from whook.backplane.compose.settings import BackplaneSettings

__all__ = [
    "BackplaneSettings",
    "Command",
    "Configured",
    "check_backplane_url",
    "check_queue_url",
    "open_backplane",
    "open_journal",
    "open_queue",
]
