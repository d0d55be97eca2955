"""What systemd does for a socket unit: holds a listening socket, and passes it to each daemon that it starts.

No systemd runs where the tests run. The protocol is sd_listen_fds(3): the socket is descriptor 3, and
LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID say so to the process that has this very id.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.support.whook_process import Launcher

BACKLOG = 4096
"""As in whook-conductor.socket."""

_LAUNCH = """
import os, sys
descriptors, names, *command = sys.argv[1:]
numbers = descriptors.split(":")
for place, number in enumerate(numbers, 3):
    os.dup2(int(number), place)
os.environ.update(LISTEN_FDS=str(len(numbers)), LISTEN_FDNAMES=names, LISTEN_PID=str(os.getpid()))
os.execv(command[0], command)
"""


@contextmanager
def holding(*names: str) -> Iterator[tuple[list[int], Launcher]]:
    """Hold sockets of these names; gives their ports, and how to start what is to take them."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)) for _ in names
        ]
        numbers = [sock.fileno() for sock in sockets]
        last = 2 + len(names)
        assert min(numbers) > last, "a duplicate would be put in the place of what is still to be duplicated"
        passed = ":".join(map(str, numbers))
        command = (sys.executable, "-S", "-E", "-c", _LAUNCH, passed, ":".join(names))
        yield [sock.getsockname()[1] for sock in sockets], Launcher(command, tuple(numbers))
