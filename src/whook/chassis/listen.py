"""Opens listening sockets from addresses as people write them.

Where it cannot, it says in one line why, and what to do. Called by the composition root and by services when
they start. It never accepts a connection: tcp.py does.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Sequence

import trio

from whook.chassis.activation import PREFIX, inherited_sockets

BACKLOG = 4096
"""Connections the kernel may queue before they are accepted: a reconnect storm must not overflow it.
The kernel lowers it to its own limit (``net.core.somaxconn``)."""

_MAX_PORT = 65_535


class ListenError(Exception):
    """An address cannot be listened on. Its text is one line that names the mend."""


def parse_address(text: str) -> tuple[str, int]:
    """Split ``host:port`` into its parts.

    The host may be a name, an IPv4 address, an IPv6 address in brackets, or empty or ``*`` for every address
    of the machine (returned as ``""``). Port 0 asks for any free one. Raises ValueError with the mend.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon:
        raise ValueError(f"address {text!r} has no port: write it as host:port, such as 127.0.0.1:8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(
            f"address {text!r} is ambiguous: put the IPv6 address in brackets, such as [::1]:8080"
        )
    if not (port.isascii() and port.isdigit() and int(port) <= _MAX_PORT):
        raise ValueError(f"address {text!r} has no valid port: give a number from 0 to {_MAX_PORT}")
    return ("" if host == "*" else host), int(port)


def check_address(text: str) -> None:
    """Return if ``text`` can be given to open_listeners. Raises ValueError with the mend."""
    if not text.startswith(PREFIX):
        parse_address(text)
    elif text == PREFIX:
        raise ValueError(f"address {text!r} has no name: write it as systemd:NAME, such as systemd:ingress")


def is_inherited(address: str) -> bool:
    """Return whether what ``address`` means is the supervisor's, and goes on listening when we end."""
    return address.startswith(PREFIX)


def format_address(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def open_listeners(
    address: str, *, what: str = "", option: str = "", backlog: int = BACKLOG
) -> list[trio.SocketListener]:
    """Open a listener on each address that ``address`` (``host:port``) stands for.

    ``systemd:NAME`` is a socket that the supervisor has opened.

    With port 0 all of them get the same free port. ``what`` says in the error what was to listen there,
    ``option`` which option changes the address. The caller closes the listeners, usually by giving them to
    serve_tcp. Raises ListenError; then nothing stays open.
    """
    if address.startswith(PREFIX):
        return _inherit(address, what, option)
    try:
        host, port = parse_address(address)
    except ValueError as error:
        raise ListenError(_sentence(f"{error}", "", what, option)) from None
    try:
        found = await trio.socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError:
        mend = "check its spelling, or give an IP address"
        raise ListenError(_sentence(f"host {host!r} is not known", mend, what, option)) from None

    listeners: list[trio.SocketListener] = []
    failure: OSError | None = None
    try:
        for family, kind, protocol, _, sockaddr in found:
            try:
                opened = await _open(family, kind, protocol, (sockaddr[0], port, *sockaddr[2:]), backlog)
            except OSError as error:
                # A machine without IPv6 still resolves names to it: that alone is no reason to fail.
                if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                    raise
                failure = error
                continue
            listeners.append(opened)
            port = bound_port(listeners)
    except OSError as error:
        failure = error
        for listener in listeners:
            listener.socket.close()
        listeners.clear()
    if not listeners:
        fault, mend = _explain(failure, host, port)
        raise ListenError(_sentence(fault, mend, what, option)) from failure
    return listeners


def _inherit(address: str, what: str, option: str) -> list[trio.SocketListener]:
    try:
        sockets = inherited_sockets(address.removeprefix(PREFIX))
    except ValueError as error:
        raise ListenError(_sentence(f"{address}: {error}", "", what, option)) from None
    return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]


def bound_port(listeners: Sequence[trio.SocketListener]) -> int:
    """Return the port that ``listeners`` (of one call to open_listeners) listen on."""
    port: int = listeners[0].socket.getsockname()[1]
    return port


def bound_address(listeners: Sequence[trio.SocketListener]) -> str:
    """Return ``host:port`` of the first of ``listeners``."""
    name = listeners[0].socket.getsockname()
    return format_address(name[0], name[1])


async def _open(
    family: int, kind: int, protocol: int, sockaddr: tuple[str | int, ...], backlog: int
) -> trio.SocketListener:
    sock = trio.socket.socket(family, kind, protocol)
    try:
        # Elsewhere this lets a restart bind while old connections linger; on Windows it would let two servers
        # share the port.
        if sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await sock.bind(sockaddr)
        sock.listen(backlog)
        return trio.SocketListener(sock)
    except OSError:
        sock.close()
        raise


def _explain(error: OSError | None, host: str, port: int) -> tuple[str, str]:
    where = format_address(host or "*", port)
    code = error.errno if error is not None else None
    if code == errno.EADDRINUSE:
        return f"{where} is in use", "stop the program that listens there, or choose another port"
    if code == errno.EACCES:
        return f"{where} is not permitted", "choose a port above 1023, or grant CAP_NET_BIND_SERVICE"
    if code in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
        return f"{where} is not an address of this machine", "use 127.0.0.1, or 0.0.0.0 for all addresses"
    reason = os.strerror(code) if code is not None else "no usable address"
    return f"{where} failed: {reason}", "choose another address"


def _sentence(fault: str, mend: str, what: str, option: str) -> str:
    subject = f"cannot listen for {what}: " if what else "cannot listen: "
    parts = [part for part in (mend, f"set it with {option}" if option else "") if part]
    return subject + fault + (f"; {', '.join(parts)}" if parts else "")
