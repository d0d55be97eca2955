"""Tunnels whose clients never read, and senders that press large bodies into them: one process over epoll.

Run as `python -m bench.slow_clients` by the `slow` scenario. Their receive buffers are small, so that what
stands still does so in the relay and the conductor, not in the system. Prints {"at": "stalled", "sent": N}
once no sender could send anything for a while; for a line on standard input, how many exchanges have ended
all the same (none should), and then goes on until the parent ends it.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import time

from bench.load import say
from bench.tunnel import OwnGrants, Tunnel

QUIET = 1.5
"""Seconds in which nothing moves, after which all stand still."""
RECEIVE = 16_384
"""Bytes of a stalled client's receive buffer, of which the system makes twice as many."""


class Press:
    """All senders and their progress."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._epoll = select.epoll()
        self._left: dict[int, memoryview] = {}
        self._socks: dict[int, socket.socket] = {}
        self.sent = 0
        self.why: list[str] = []
        body = b"x" * args.size
        for number in range(args.first, args.first + args.count):
            host = f"{args.prefix}{number}.localhost:{args.port}"
            head = f"POST /stalled HTTP/1.1\r\nHost: {host}\r\nContent-Length: {args.size}\r\n\r\n"
            request = memoryview(head.encode() + body)
            for _ in range(args.each):
                sock = socket.create_connection(("127.0.0.1", args.port), 30)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RECEIVE)
                sock.setblocking(False)
                self._socks[sock.fileno()] = sock
                self._left[sock.fileno()] = request
                self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def turn(self, timeout: float) -> bool:
        """Send what can be sent; return whether anything moved."""
        moved = False
        for fd, event in self._epoll.poll(timeout):
            if event & select.EPOLLOUT:
                moved = self._send(fd) or moved
            if event & ~select.EPOLLOUT:
                self.why.append(repr(self._socks[fd].recv(300)))
                self._epoll.unregister(fd)
        return moved

    def _send(self, fd: int) -> bool:
        try:
            count = self._socks[fd].send(self._left[fd])
        except BlockingIOError:
            return False
        self.sent += count
        self._left[fd] = self._left[fd][count:]
        if not self._left[fd]:
            self._epoll.modify(fd, select.EPOLLIN)
        return True


def main() -> None:
    """Open the tunnels, press, tell."""
    parser = argparse.ArgumentParser()
    parser.add_argument("relay")
    parser.add_argument("port", type=int)
    parser.add_argument("--relay-id", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--each", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    args = parser.parse_args()
    grants = OwnGrants(args.relay, os.environ["WHOOK_BENCH_KEY"], args.relay_id)
    tunnels: list[Tunnel] = []
    for number in range(args.first, args.first + args.count):
        project = f"{args.prefix}{number}"
        tunnels.append(Tunnel(grants.ask(project, f"stalled-{number}"), f"stalled-{number}"))
        tunnels[-1].sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE)
    press = Press(args)
    last = time.monotonic()
    while time.monotonic() - last < QUIET:
        if press.turn(0.1):
            last = time.monotonic()
    say(at="stalled", sent=press.sent)
    while sys.stdin.readline():
        press.turn(0.0)
        say(ended=len(press.why), why=press.why[:5])


if __name__ == "__main__":
    main()
