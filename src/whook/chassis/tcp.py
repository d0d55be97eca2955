"""Serves TCP connections: accepts, limits, contains and drains them.

The ingress, the trunk and tunnel listeners and the bounded ASGI server call serve_tcp with their handler. It
knows nothing about what the connections carry. It must stay cheap per connection: no lock, no metric object
and one task for each.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import trio

from whook.chassis import metrics
from whook.chassis.drain import Drain
from whook.chassis.logs import get_logger
from whook.chassis.shedding import Shedding

ACCEPT_TAIL = 0.05
"""Seconds for which a draining server still accepts: connections that the kernel has already completed
would be reset by closing the listener."""

EXHAUSTED_PAUSE = 0.1
"""Longest pause in seconds before accepting again when the process is out of descriptors or memory."""

LINGER = 1.0
"""Seconds for which a refused connection is read before it is closed: closing it with unread data sends a
reset, and the peer would lose the refusal (RFC 9112 section 9.6)."""

MAX_LINGERING = 64
"""Refused connections that linger at the same time. Beyond it they are closed at once, unanswered: a flood of
refusals must not cost tasks."""

REFUSAL_LOG_INTERVAL = 10.0
"""Seconds between two log lines about refused connections."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# accept(2): errors of the connection that was waiting, not of the listener.
_ROUTINE = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH",
        "EOPNOTSUPP", "ENETUNREACH",
    )
    if hasattr(errno, name)
)  # fmt: skip
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError)

_log = get_logger("whook.tcp")


class Peer(NamedTuple):
    """The other end's address; an IPv4 address that came over an IPv6 socket is given as IPv4."""

    host: str
    port: int


Handler = Callable[[trio.SocketStream, Peer], Awaitable[object]]
Refusal = bytes | Callable[[Peer, str], bytes]


@dataclass(frozen=True, slots=True)
class TcpLimits:
    """How many connections a server holds. ``None`` means no limit.

    ``per_address`` counts an IPv6 peer by its /64, the smallest network a subscriber gets (RFC 6177). Behind
    a load balancer every connection has the same address: set it to ``None`` there.
    """

    connections: int | None = 10_000
    per_address: int | None = 256


@dataclass(slots=True)
class TcpStats:
    """Plain counters of one server, read at scrape time."""

    open: int = 0
    accepted: int = 0
    failed: int = 0
    """Connections whose handler raised something unexpected."""
    gone: int = 0
    """Connections that ended because the peer went away."""
    exhausted: int = 0
    """Times that accepting had to pause for want of descriptors or memory."""
    refused: dict[str, int] = field(default_factory=lambda: {"connections": 0, "per-address": 0})


async def serve_tcp(
    handler: Handler,
    listeners: Sequence[trio.SocketListener],
    *,
    name: str,
    drain: Drain,
    limits: TcpLimits | None = None,
    refusal: Refusal = b"",
    stats: TcpStats | None = None,
    shedding: Shedding | None = None,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run ``handler(stream, peer)`` in a task for each connection, until the drain is over.

    ``name`` labels logs and metrics. A connection beyond ``limits`` is sent ``refusal`` (or what
    ``refusal(peer, limit)`` returns, ``limit`` being ``"connections"`` or ``"per-address"``) and closed. What
    a handler raises is logged and counted and ends only its own connection; the stream is closed after it.

    ``shedding`` turns those away for whom there would be no time.

    When the drain begins the listeners are closed; the handlers may finish until its deadline, when those
    left are cancelled. Then it returns. The listeners are closed in every case. Raises OSError or
    trio.ClosedResourceError if a listener breaks.
    """
    server = _Server(name, limits or TcpLimits(), refusal, stats or TcpStats(), shedding)
    with _published(name, server.stats):
        async with trio.open_nursery() as handlers, trio.open_nursery() as accepting:
            for listener in listeners:
                accepting.start_soon(_accept, server, listener, handlers, handler)
            task_status.started(list(listeners))
            await drain.wait()
            handlers.cancel_scope.deadline = drain.deadline
            accepting.cancel_scope.deadline = trio.current_time() + ACCEPT_TAIL


class _Server:
    """The tables of one server. They change only synchronously."""

    __slots__ = (
        "addresses", "freed", "limits", "lingering", "log", "name", "next_log", "refusal", "shedding",
        "stats",
    )  # fmt: skip

    def __init__(
        self, name: str, limits: TcpLimits, refusal: Refusal, stats: TcpStats, shedding: Shedding | None
    ) -> None:
        self.name = name
        self.limits = limits
        self.refusal = refusal
        self.stats = stats
        self.shedding = shedding
        self.addresses: dict[str | bytes, int] = {}
        self.lingering = 0
        self.freed = trio.lowlevel.ParkingLot()
        self.next_log = 0.0
        self.log = _log.bind(listener=name)

    def admit(self, key: str | bytes) -> str | None:
        """Take a place for a connection of address ``key``; otherwise return the limit that is in the way."""
        limits, stats = self.limits, self.stats
        if limits.connections is not None and stats.open >= limits.connections:
            return "connections"
        held = self.addresses.get(key, 0)
        if limits.per_address is not None and held >= limits.per_address:
            return "per-address"
        self.addresses[key] = held + 1
        stats.open += 1
        stats.accepted += 1
        return None

    def release(self, key: str | bytes) -> None:
        """Give back the place taken for ``key``."""
        self.stats.open -= 1
        held = self.addresses[key] - 1
        if held:
            self.addresses[key] = held
        else:
            del self.addresses[key]
        if self.freed:
            self.freed.unpark_all()

    def note_refusal(self, limit: str, peer: Peer) -> None:
        self.stats.refused[limit] += 1
        now = trio.current_time()
        if now >= self.next_log:
            self.next_log = now + REFUSAL_LOG_INTERVAL
            self.log.warning("connection refused", limit=limit, peer=peer.host, open=self.stats.open)


async def _accept(
    server: _Server, listener: trio.SocketListener, handlers: trio.Nursery, handler: Handler
) -> None:
    exhausted = False
    async with listener:
        while True:
            try:
                # Not listener.accept(): that drops the peer's address, which would cost another system call.
                sock, address = await listener.socket.accept()
            except OSError as error:
                if error.errno in _ROUTINE:
                    continue
                if error.errno not in _EXHAUSTED:
                    raise
                server.stats.exhausted += 1
                if not exhausted:
                    server.log.warning(
                        "cannot accept", error=os.strerror(error.errno), open=server.stats.open
                    )
                exhausted = True
                # Whatever closes first makes room, here or elsewhere in the process.
                with trio.move_on_after(EXHAUSTED_PAUSE):
                    await server.freed.park()
                continue
            exhausted = False
            if server.shedding is not None:
                server.shedding.relieve(listener.socket)
            peer, key = _identify(address)
            limit = server.admit(key)
            if limit is None:
                handlers.start_soon(_connection, server, handler, trio.SocketStream(sock), peer, key)
                continue
            server.note_refusal(limit, peer)
            if server.lingering < MAX_LINGERING:
                server.lingering += 1
                handlers.start_soon(_refuse, server, sock, peer, limit)
            else:
                sock.close()


async def _connection(
    server: _Server, handler: Handler, stream: trio.SocketStream, peer: Peer, key: str | bytes
) -> None:
    try:
        await handler(stream, peer)
    except* _GONE:
        server.stats.gone += 1
    except* Exception:
        server.stats.failed += 1
        server.log.exception("connection failed", peer=peer.host)
    finally:
        stream.socket.close()
        server.release(key)


async def _refuse(server: _Server, sock: trio.socket.SocketType, peer: Peer, limit: str) -> None:
    try:
        payload = server.refusal if isinstance(server.refusal, bytes) else server.refusal(peer, limit)
        if not payload:
            return
        with trio.move_on_after(LINGER), contextlib.suppress(OSError):
            await sock.send(payload)
            sock.shutdown(trio.socket.SHUT_WR)
            while await sock.recv(65_536):
                pass
    except Exception:
        server.stats.failed += 1
        server.log.exception("refusal failed", peer=peer.host, limit=limit)
    finally:
        sock.close()
        server.lingering -= 1


def _identify(address: tuple[str, int] | tuple[str, int, int, int]) -> tuple[Peer, str | bytes]:
    """Return the peer and what its address is counted by."""
    host = address[0]
    if ":" not in host:
        return Peer(host, address[1]), host
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
        return Peer(host, address[1]), host
    return Peer(host, address[1]), ipaddress.IPv6Address(host.partition("%")[0]).packed[:8]


@contextlib.contextmanager
def _published(name: str, stats: TcpStats) -> Generator[None]:
    ended = "Connections that ended with an error, by cause."
    with contextlib.ExitStack() as stack:

        def publish(metric: str, documentation: str, read: Callable[[], float], **labels: str) -> None:
            kind: Literal["gauge", "counter"] = "gauge" if metric == "whook_connections" else "counter"
            stack.enter_context(
                metrics.watch(metric, documentation, read, kind=kind, listener=name, **labels)
            )

        publish("whook_connections", "Open connections.", lambda: stats.open)
        publish("whook_connections_accepted", "Connections accepted.", lambda: stats.accepted)
        publish("whook_connections_errors", ended, lambda: stats.failed, cause="failed")
        publish("whook_connections_errors", ended, lambda: stats.gone, cause="gone")
        publish("whook_accept_pauses", "Pauses for want of descriptors.", lambda: stats.exhausted)
        for limit in stats.refused:
            publish(
                "whook_connections_refused",
                "Connections refused, by the limit that was full.",
                partial(stats.refused.__getitem__, limit),
                limit=limit,
            )
        yield
