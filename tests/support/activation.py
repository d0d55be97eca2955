"""What systemd does for a socket unit: holds a listening socket, and passes it to each daemon that it starts.

No systemd runs where the tests run. The protocol is sd_listen_fds(3): the socket is descriptor 3, and
LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID say so to the process that has this very id.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.whook_process import Launcher

BACKLOG = 4096
"""As in whook-conductor.socket."""

_LAUNCH = """
import os, sys
descriptor, name, *command = sys.argv[1:]
os.dup2(int(descriptor), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES=name, LISTEN_PID=str(os.getpid()))
os.execv(command[0], command)
"""


@contextmanager
def holding(name: str) -> Iterator[tuple[int, Launcher]]:
    """Hold a socket called ``name``; gives its port, and how to start what is to take it."""
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as sock:
        number = sock.fileno()
        assert number != 3, "the descriptor is inheritable only after it has been duplicated"
        command = (sys.executable, "-S", "-E", "-c", _LAUNCH, str(number), name)
        yield sock.getsockname()[1], Launcher(command, (number,))
