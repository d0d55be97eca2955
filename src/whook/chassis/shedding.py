"""Turns connections away while more wait to be accepted than can be served in time.

Whoever waits too long in a listener's queue gives up, and is served for nothing when its turn comes; one that
does not even get into the queue (listen(2)) only hears silence. An answer that says when to come back takes
35 µs, a twentieth of a tunnel's handshake. Called by `tcp.serve_tcp` after each connection that it has
accepted; the relay uses it for its tunnels. Synchronous; it reads nothing of what a client sent.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

import trio

#: Connections turned away at most for one that is accepted: 2 ms, so that those who are served go on.
BURST: Final = 64

#: tcp(7), struct tcp_info of a listening socket: tcpi_unacked is the number of connections in its queue.
_UNACKED: Final = struct.Struct("=24xI")
_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
_DONTWAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)


def waiting(listening: trio.socket.SocketType) -> int:
    """Return how many connections wait to be accepted; 0 where the system does not tell (only Linux does)."""
    if _TCP_INFO is None or not _DONTWAIT:
        return 0
    try:
        info = listening.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _UNACKED.size)
    except OSError:  # no TCP, such as a Unix socket
        return 0
    return int(_UNACKED.unpack(info)[0]) if len(info) == _UNACKED.size else 0


class Shedding:
    """What is said to those for whom there is no time.

    Attributes:
        most: connections that may wait; those at the head of the queue are turned away beyond it.
        turned_away: how many were.
    """

    __slots__ = ("_answer", "most", "turned_away")

    def __init__(self, most: int, answer: Callable[[], bytes]) -> None:
        """`answer` gives all that is sent to one connection; it is asked for each."""
        self.most = most
        self.turned_away = 0
        self._answer = answer

    def relieve(self, listening: trio.socket.SocketType) -> None:
        """Turn connections away if too many wait."""
        excess = min(waiting(listening) - self.most, BURST)
        if excess <= 0:
            return
        # Trio's own accept would let all other tasks run before each.
        raw = socket.socket(fileno=listening.fileno())
        try:
            raw.setblocking(False)
            for _ in range(excess):
                with contextlib.suppress(OSError):
                    self._turn_away(raw.accept()[0])
        finally:
            raw.detach()

    def _turn_away(self, connection: socket.socket) -> None:
        self.turned_away += 1
        with connection:
            # Closing it with unread data would send a reset (RFC 9112 section 9.6). Of what comes later the
            # answer may be lost; the client then takes it for a connection that broke.
            with contextlib.suppress(BlockingIOError):
                connection.recv(65_536, _DONTWAIT)
            connection.send(self._answer(), _DONTWAIT)
            connection.shutdown(socket.SHUT_WR)
