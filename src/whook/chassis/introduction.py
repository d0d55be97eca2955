"""Reads the PROXY protocol's header in front of a connection, and believes it from known proxies only.

Given to `serve_tcp` by a service whose listener stands behind such a proxy. The grammar is
`proxy_protocol`'s; here it is taken off the socket to the byte, so that the connection's handler finds what
the sender sent and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Protocol

import trio

from whook.chassis.proxy_protocol import LONGEST, ProxyHeader, ProxyProtocolError, parse_proxy_header
from whook.chassis.tcp import Peer, UnintroducedError


class Network(Protocol):
    """An IPv4Network or IPv6Network."""

    def __contains__(self, address: object, /) -> bool: ...


class ProxyIntroduction:
    """The introduction of one listener."""

    __slots__ = ("_timeout", "_trusted", "_versions")

    def __init__(self, trusted: Sequence[Network], versions: frozenset[int], timeout: float) -> None:
        """``trusted`` are the proxies' addresses; a header of one of ``versions`` may take ``timeout`` s."""
        self._trusted = trusted
        self._versions = versions
        self._timeout = timeout

    async def __call__(self, stream: trio.SocketStream, peer: Peer) -> Peer:
        """Return whom the connection is from, and leave its first byte next to read.

        That is ``peer`` itself where the proxy speaks for itself, as its health checks do. Raises
        UnintroducedError, and what a socket does whose peer is gone.
        """
        if not is_among(peer.host, self._trusted):
            raise UnintroducedError("it is no trusted proxy's")
        header: ProxyHeader | None = None
        with trio.move_on_after(self._timeout):
            try:
                header = await self._read(stream)
            except ProxyProtocolError as error:
                raise UnintroducedError(str(error)) from None
        if header is None:
            raise UnintroducedError("its header did not come in time")
        if not header.host:
            return peer._replace(secure=header.secure)
        return Peer(header.host, header.port, header.secure)

    async def _read(self, stream: trio.SocketStream) -> ProxyHeader:
        taken = b""
        while True:
            # Looked at before it is taken: what follows the header is not ours.
            seen = await stream.socket.recv(LONGEST - len(taken), trio.socket.MSG_PEEK)
            if not seen:
                raise trio.BrokenResourceError("closed before its header")
            header = parse_proxy_header(taken + seen, self._versions)
            ours = len(seen) if header is None else header.size - len(taken)
            taken += await stream.socket.recv(ours)
            if header is not None:
                return header


def is_among(host: str, networks: Sequence[Network]) -> bool:
    """Return whether the address ``host`` is in one of ``networks``; what is no address is not."""
    if not networks:
        return False
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in networks)
