"""The local server of the tests: raw sockets, one thread a connection, answers scripted byte by byte.

A test queues one script for each request that it will send; the origin records every request as bytes. A
script that fails, or a request that nobody scripted, fails the test through `check`, never silently.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.support.deadlines import DEADLINE, Changing
from tests.support.rawhttp import Message, Peer, PeerClosed


@dataclass(slots=True)
class Turn:
    """One request at the origin, as its script sees it: the head is read, the body is still to come."""

    origin: Origin
    peer: Peer
    head: Message
    number: int
    message: Message | None = None

    def read(self) -> Message:
        """Read the body too, and record the whole request; once."""
        if self.message is None:
            self.message = self.peer.read_body(self.head, to_end=False)
            self.origin.record(self.message)
        return self.message

    def send(self, *parts: bytes) -> None:
        """Send bytes of the answer as they are."""
        self.peer.send(*parts)

    def close(self) -> None:
        """Close the connection after the answer."""
        self.peer.close()


Script = Callable[[Turn], None]


def reply(*parts: bytes, close: bool = False) -> Script:
    """Script: read the request to its end, then send these bytes."""

    def script(turn: Turn) -> None:
        turn.read()
        turn.send(*parts)
        if close:
            turn.close()

    return script


def response(
    body: bytes = b"", *lines: bytes, status: bytes = b"200 OK", length: bool = True, version: bytes = b"1.1"
) -> bytes:
    """Give the bytes of a plain response; `lines` are header lines without line breaks."""
    head = [b"HTTP/%s %s" % (version, status), *lines]
    if length:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def ok(turn: Turn) -> None:
    """Script: read the request and answer 200 with two bytes."""
    turn.read()
    turn.send(response(b"ok", b"Content-Type: text/plain"))


class Origin:
    """A listening socket on loopback and its threads; a context manager that leaves nothing running."""

    def __init__(self, otherwise: Script | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._otherwise = otherwise
        self._scripts: deque[Script] = deque()
        self._threads: list[threading.Thread] = []
        self._peers: set[socket.socket] = set()
        self._changing = Changing()
        self._closing = False
        self._seen = 0
        self._outstanding = 0
        self.received: list[Message] = []
        self.failures: list[Exception] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._acceptor = threading.Thread(target=self._accept, name="origin", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close everything and wait for the threads."""
        with self._changing:
            self._closing = True
        _shut(self._listener)
        self._acceptor.join(DEADLINE)
        self._listener.close()
        self.drop_connections()
        for thread in self._threads:
            thread.join(DEADLINE)

    def drop_connections(self) -> None:
        """Close every open connection, as a local server that restarts would."""
        with self._changing:
            peers = list(self._peers)
        for peer in peers:
            _shut(peer)

    def script(self, *scripts: Script) -> None:
        """Queue the answers to the next requests, in the order in which those will arrive."""
        with self._changing:
            self._scripts.extend(scripts)
            self._outstanding += len(scripts)

    def reset(self) -> None:
        """Forget scripts, records and failures: the start of another test on the same origin."""
        with self._changing:
            self._scripts.clear()
            self._outstanding = 0
            self.received.clear()
            self.failures.clear()

    def check(self) -> None:
        """Wait until every queued script has run to its end; raise what failed in one."""
        self._changing.wait_for(lambda: self.failures or self._outstanding <= 0, "scripts to end")
        if self.failures:
            raise ExceptionGroup("scripts of the origin failed", self.failures)

    def record(self, message: Message) -> None:
        """Keep a whole request; called by Turn."""
        with self._changing:
            self.received.append(message)

    def wait_received(self, count: int) -> Sequence[Message]:
        """Wait until so many whole requests have arrived since the start or the last reset."""
        return self._changing.wait_for(
            lambda: self.received[:count] if len(self.received) >= count else None, f"{count} requests"
        )

    def wait_targets(self, targets: set[bytes]) -> None:
        """Wait until each of these targets has been asked for."""

        def look() -> bool | None:
            return targets <= {message.target for message in self.received} or None

        self._changing.wait_for(look, f"{len(targets)} targets")

    def wait_seen(self, count: int) -> None:
        """Wait until so many heads have arrived since the origin started."""
        self._changing.wait_for(lambda: self._seen >= count, f"{count} request heads")

    # --- threads

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._changing:
                if self._closing:
                    sock.close()
                    return
                self._peers.add(sock)
                thread = threading.Thread(
                    target=self._serve, args=(sock,), name="origin-connection", daemon=True
                )
                self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(DEADLINE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(sock)
        try:
            while sock.fileno() >= 0 and self._one(peer):
                pass
        except Exception as exc:  # noqa: BLE001 - kept, and raised by check()
            with self._changing:
                if not self._closing:
                    self.failures.append(exc)
        finally:
            with self._changing:
                self._peers.discard(sock)
            peer.close()

    def _one(self, peer: Peer) -> bool:
        """Answer one request; False when the connection ended between requests."""
        peer.sock.settimeout(None)  # an idle keep-alive connection may idle for the whole module
        try:
            head = peer.read_head()
        except PeerClosed as exc:
            if exc.args[1]:
                raise
            return False
        except OSError:
            return False
        peer.sock.settimeout(DEADLINE)
        with self._changing:
            self._seen += 1
            number = self._seen
            script = self._scripts.popleft() if self._scripts else None
        try:
            if (run := script or self._otherwise) is None:
                raise AssertionError(f"nobody expected this request: {head.head!r}")
            run(Turn(self, peer, head, number))
        finally:
            if script is not None:
                with self._changing:
                    self._outstanding -= 1
        return True


def _shut(sock: socket.socket) -> None:
    """Wake a thread that blocks on this socket, in a way that every platform knows."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
