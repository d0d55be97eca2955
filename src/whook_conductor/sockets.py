"""What a conductor's listening sockets need beside being opened: looking after silent senders, and their end.

Called by `service`. Plain functions over sockets.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

import trio

_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""A silent connection is probed after a minute, and given up two minutes after its other end vanished."""


def keep_alive(listeners: Sequence[trio.SocketListener]) -> None:
    """Have the system look after senders that are silent; connections inherit it from their listener.

    It finds out those whose machine or network has vanished, while their streamed response has nothing to
    say.
    """
    for listener in listeners:
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                listener.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def close_all(listeners: Sequence[trio.SocketListener]) -> None:
    """Close them."""
    for listener in listeners:
        listener.socket.close()
