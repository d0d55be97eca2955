"""Sockets that the supervisor has opened for this daemon (systemd socket activation, sd_listen_fds(3)).

`listen` asks for one by its name. The supervisor keeps the socket while the daemon restarts, so connections
wait in the kernel's queue instead of being refused. Owns nothing: a socket belongs to whoever took it.
"""

from __future__ import annotations

import os
import socket

PREFIX = "systemd:"
"""Begins an address that is a socket's name (FileDescriptorName=), such as ``systemd:ingress``."""

_FIRST = 3
"""The first descriptor that is passed, SD_LISTEN_FDS_START."""


def inherited_sockets(name: str) -> list[socket.socket]:
    """Return the listening TCP sockets that were passed under ``name``, as copies that the caller closes.

    Copies, because the supervisor's descriptor is to be found again when the daemon opens its listeners
    another time. Raises ValueError, with the reason and the mend, when there is none or it is something else.
    """
    descriptors = _descriptors()
    if not descriptors:
        raise ValueError("no sockets were passed: start the daemon by its socket unit, or give host:port")
    found = [number for number, called in descriptors if called == name]
    if not found:
        names = ", ".join(sorted({called for _, called in descriptors}))
        raise ValueError(
            f"no socket is called {name!r}: the socket unit passes {names} (FileDescriptorName=)"
        )
    return [_adopt(number, name) for number in found]


def _descriptors() -> list[tuple[int, str]]:
    count = os.environ.get("LISTEN_FDS", "")
    if not count.isdecimal() or os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    unnamed = "unknown"  # what systemd calls a socket without a name
    return [
        (_FIRST + index, names[index] if index < len(names) and names[index] else unnamed)
        for index in range(int(count))
    ]


def _adopt(number: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=os.dup(number))
    except OSError as error:
        raise ValueError(f"the socket {name!r} cannot be used: {os.strerror(error.errno or 0)}") from None
    stream = sock.family in {socket.AF_INET, socket.AF_INET6} and sock.type == socket.SOCK_STREAM
    if not stream or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ValueError(f"the socket {name!r} does not listen for TCP: use ListenStream= with host and port")
    sock.setblocking(False)
    return sock
