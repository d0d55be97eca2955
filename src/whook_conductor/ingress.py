"""The public ingress: what happens on one sender's connection, from its first byte to its close.

Handed to the chassis' TCP server by the service; owns nothing but the set of idle connections. Each
connection is one task, whose requests are answered in the order in which they came (RFC 9112 section
9.3.2).
"""

from __future__ import annotations

import trio

from whook.chassis.introduction import ProxyIntroduction, is_among
from whook.chassis.problem import RawHeaders, problem, raw_response
from whook.chassis.tcp import Peer
from whook.http1 import Failed
from whook_conductor.answers import OVERLOADED, REQUEST_TIMEOUT, bad_message, encode_answer
from whook_conductor.conversation import Conversation
from whook_conductor.dialogue import Context
from whook_conductor.forwarding import Forwarding
from whook_conductor.sender import Phase, Sender, SenderGoneError
from whook_conductor.settings import ConductorSettings

_RETRY: RawHeaders = [(b"Retry-After", b"%d" % (OVERLOADED.retry_after or 1))]
REFUSAL = raw_response(503, problem(503, OVERLOADED.slug, OVERLOADED.title, "Too many connections."), _RETRY)
"""What a connection beyond the limits is sent."""
_VERSIONS = {"v1": {1}, "v2": {2}, "both": {1, 2}}
_SCHEMES = {True: "https", False: "http"}
"""By whether the sender came over TLS."""


def introduction(settings: ConductorSettings) -> ProxyIntroduction | None:
    """Return what reads whom a connection is from, where a proxy in front says so."""
    versions = _VERSIONS.get(settings.proxy_protocol)
    if versions is None:
        return None
    return ProxyIntroduction(settings.trusted_proxies, frozenset(versions), settings.header_timeout)


class Ingress:
    """Serves senders. `handle` is the task of one connection."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._idle: set[Sender] = set()
        self.malformed: dict[int, int] = {400: 0, 408: 0, 413: 0, 431: 0, 501: 0, 505: 0}
        """Requests that never became one, by the status they were answered with."""

    async def handle(self, stream: trio.SocketStream, peer: Peer) -> None:
        """Serve one connection, which the caller closes. Raises what a socket does whose peer is gone."""
        sender = Sender(stream, peer, self._context.settings, self._idle)
        try:
            while True:
                with sender.guard:
                    await self._serve(sender, peer.secure)
                if not sender.spoke_at_last():
                    break
            if sender.rescue is not None:
                await sender.rescue.rescue()
        finally:
            if sender.rescue is not None:
                sender.rescue.report()
        if sender.guard.cancelled_caught and sender.phase is Phase.HEAD:
            self.malformed[REQUEST_TIMEOUT.status] += 1
            sender.parting = encode_answer(REQUEST_TIMEOUT, close=True)
            sender.may_send_more(unfinished=True)
        try:
            if sender.parting:
                with trio.move_on_after(self._context.settings.linger_timeout):
                    await sender.write(sender.parting)
            if sender.linger_for:
                await sender.linger()
        except SenderGoneError:
            return  # nobody is left to part from

    async def _serve(self, sender: Sender, secure: bool | None) -> None:
        context = self._context
        settings = context.settings
        proxies = settings.trusted_proxies
        trusted = is_among(sender.host, proxies)
        scheme = settings.public_scheme if secure is None else _SCHEMES[secure]
        forwarding = Forwarding(sender.host, scheme, trusted=trusted, proxies=proxies)
        while True:
            if context.drain.begun:
                sender.hurry()
            head = await sender.next_head()
            if head is None:
                return
            if isinstance(head, Failed):
                error = head.error
                self.malformed[error.status] += 1
                answer = bad_message(error.status, error.type, error.detail)
                sender.parting = encode_answer(answer, close=True)
                sender.may_send_more(unfinished=True)
                return
            if not await Conversation(context, sender, head).run(forwarding):
                return

    async def end_idle(self) -> None:
        """Close the idle connections once the drain begins; those in use close after their request.

        On one that is new, or has just been used, a request may be on its way: that one is served.
        """
        await self._context.drain.wait()
        for sender in list(self._idle):
            sender.hurry()
