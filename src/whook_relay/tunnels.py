"""A tunnel's life: handshake, token, introduction, claim, frames, end.

`Tunnels.handle` is the handler of the tunnel listener. Whatever refuses a client does so with a reason that
it can show: as an HTTP problem before the WebSocket is open, as GOAWAY after. One tunnel's failure
ends that tunnel alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import trio

from whook.backplane.ports import (
    CLOCKS_DIFFER,
    Directory,
    Kick,
    LeaseLost,
    RecentKicks,
    RouteHeld,
    Unavailable,
)
from whook.chassis.admission import Admission, Place
from whook.chassis.drain import Drain
from whook.chassis.ids import new_id
from whook.chassis.logs import get_logger
from whook.chassis.problem import ProblemError
from whook.chassis.tcp import Peer
from whook.chassis.tunnel_token import TunnelClaims, TunnelTokenInvalid, Verifier
from whook.link import Heartbeat, Link, LinkClosed, LinkRefused, Sender
from whook.link.acceptor import AcceptedWebSocket, Handshake, receive_handshake, refusal_of
from whook.wire import (
    PROTOCOL_VERSION,
    Frame,
    GoAwayCode,
    Hello,
    ProtocolError,
    encode_goaway,
    encode_hello,
)
from whook_relay.denials import Denials
from whook_relay.lease import RENEW_BEFORE, replace_tunnel, route_of
from whook_relay.releases import Releases
from whook_relay.settings import RelaySettings
from whook_relay.switch import Switch, Tunnel

PATH: Final = "/v1/tunnel"
#: Seconds before a refused client should try again.
_RETRY_FULL: Final = 5
#: Seconds until a token is no longer taken for one from before a withdrawal of a moment ago.
_RETRY_KICKED: Final = 3
_HOLDER_LENGTH: Final = 100

_log = get_logger("whook.relay.tunnel")


class _Refused(Exception):
    """The client cannot have this tunnel, and is told why by GOAWAY."""

    def __init__(self, code: GoAwayCode, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class Tunnels:
    """Accepts tunnels into the switch."""

    def __init__(
        self,
        settings: RelaySettings,
        switch: Switch,
        *,
        directory: Directory,
        verifier: Verifier,
        heartbeat: Heartbeat,
        sender: Sender,
        drain: Drain,
        agent: str,
        releases: Releases,
        admission: Admission,
        denials: Denials,
        kicks: RecentKicks,
        refresh_keys: Callable[[], Awaitable[None]] | None = None,
        lacking: Callable[[], object] = lambda: None,
    ) -> None:
        """`refresh_keys` brings the verifier up to date for a token that names an unknown key.

        `lacking` tells why the relay can hold no route now, None when it can.
        """
        self._lacking = lacking
        self._releases = releases
        self._admission = admission
        self._denials = denials
        self._kicks = kicks
        self._refresh_keys = refresh_keys
        self._settings = settings
        self._switch = switch
        self._directory = directory
        self._verifier = verifier
        self._heartbeat = heartbeat
        self._sender = sender
        self._drain = drain
        self._agent = agent

    async def handle(self, stream: trio.SocketStream, peer: Peer) -> None:
        """Serve one connection from its handshake to its end."""
        try:
            with trio.fail_after(self._settings.handshake_timeout):
                handshake = await receive_handshake(stream)
            admitted = await self._admit(handshake, peer)
            if admitted is None:
                return
            claims, place = admitted
            try:
                transport = await handshake.accept()
                del handshake, admitted  # nothing of it is to be kept as long as the tunnel lives
                await self._serve(transport, claims, peer, place)
            finally:
                place.leave()
        except (LinkClosed, LinkRefused, ProtocolError, trio.TooSlowError) as error:
            _log.debug("no tunnel", peer=peer.host, error=str(error))

    def turn_away(self) -> bytes:
        """Return the answer to a client for whose handshake there is no time now."""
        problem = _busy(self._admission.refuse())
        return refusal_of(problem.status, problem.headers, problem.body)

    async def _admit(self, handshake: Handshake, peer: Peer) -> tuple[TunnelClaims, Place] | None:
        """Check the handshake; answer it with a problem and return None when it cannot become a tunnel."""
        try:
            claims = await self._check(handshake)
            place = self._admission.enter()
            if isinstance(place, Place):
                return claims, place
            raise _busy(place)
        except ProblemError as problem:
            if problem.status == HTTPStatus.UNAUTHORIZED:
                await self._denials.tell(peer.host, problem.detail)
            await handshake.reject(problem.status, problem.headers, problem.body)
            return None

    async def _check(self, handshake: Handshake) -> TunnelClaims:
        if handshake.path.partition("?")[0] != PATH:
            raise ProblemError(404, "not-found", detail=f"Tunnels are opened at {PATH}.")
        if not handshake.speaks_whook:
            raise ProblemError(
                400, "version", detail="The client must offer the WebSocket subprotocol whook.v1: update it."
            )
        scheme, _, token = handshake.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ProblemError(401, "unauthorized", detail="A tunnel token is missing.")
        try:
            claims = await self._verify(token.strip())
        except TunnelTokenInvalid as error:
            raise ProblemError(
                401, "unauthorized", detail=f"The tunnel token is refused: {error.reason}."
            ) from None
        self._check_kicks(claims)
        full = len(self._switch.tunnels) >= self._settings.capacity
        if self._drain.begun or full or self._lacking() is not None:
            raise ProblemError(
                503, "no-relay", detail="This relay takes no more tunnels now.", retry_after=_RETRY_FULL
            )
        return claims

    def _check_kicks(self, claims: TunnelClaims) -> None:
        kick = self._find_kick(claims)
        if kick is None:
            return
        if claims.issued_at + 1 + CLOCKS_DIFFER < kick.at:
            raise ProblemError(401, "unauthorized", detail=f"The tunnel token is withdrawn: {kick.reason}.")
        # The token may have been minted after it: then the next one is good.
        raise ProblemError(
            503, "unavailable", detail="The tunnel token is of a moment ago.", retry_after=_RETRY_KICKED
        )

    def _find_kick(self, claims: TunnelClaims) -> Kick | None:
        return self._kicks.find(
            project_id=claims.project_id,
            project=claims.project,
            user_id=claims.user_id,
            token_id=claims.token_id,
            issued_at=claims.issued_at,
        )

    async def _verify(self, token: str) -> TunnelClaims:
        try:
            return self._verifier.verify(token, relay_id=self._settings.relay_id)
        except TunnelTokenInvalid as error:
            if error.reason != "unknown-key" or self._refresh_keys is None:
                raise
        with trio.move_on_after(self._settings.handshake_timeout):
            await self._refresh_keys()
        if not self._verifier.key_ids:
            detail = "This relay has no keys yet by which to check tokens."
            raise ProblemError(503, "unavailable", detail=detail, retry_after=1)
        return self._verifier.verify(token, relay_id=self._settings.relay_id)

    async def _serve(
        self, transport: AcceptedWebSocket, claims: TunnelClaims, peer: Peer, place: Place
    ) -> None:
        tunnel_id = new_id("tun")
        link = Link(transport, name=f"tunnel {claims.project} {tunnel_id}", flush_soon=self._sender.add)
        with trio.fail_after(self._settings.handshake_timeout):
            hello = await link.receive_hello()
        tunnel = Tunnel(
            link,
            tunnel_id=tunnel_id,
            project_id=claims.project_id,
            project=claims.project,
            user_id=claims.user_id,
            token_id=claims.token_id,
            instance=_printable(hello.instance) or tunnel_id,
            holder=_printable(hello.holder) or "an unnamed client",
            issued_at=claims.issued_at,
            renew_at=claims.expires_at - min(RENEW_BEFORE, (claims.expires_at - claims.issued_at) / 2),
            watch=hello.mode == "watch",
        )
        log = _log.bind(project=claims.project, tunnel=tunnel_id, peer=peer.host)
        try:
            try:
                with trio.fail_after(self._settings.handshake_timeout):
                    await self._introduce(tunnel, hello, claims)
            except _Refused as refusal:
                log.info("tunnel refused", reason=refusal.code.name.lower())
                link.finish(str(refusal), encode_goaway(refusal.code, str(refusal), refusal.retry_after))
                await link.run(_ignore)  # closes it properly: the client may have more on its way
                return
            log.info("tunnel opened", holder=tunnel.holder, mode=hello.mode, agent=_printable(hello.agent))
            place.leave()
            self._heartbeat.add(link)
            link.expire_after(claims.expires_at - time.time(), "the tunnel's token expired")
            await link.run(self._switch.receiver_for_tunnel(tunnel))
        finally:
            reason = link.close_reason or "it was never opened"
            self._switch.remove(tunnel, reason)
            log.info("tunnel closed", reason=reason)
            if tunnel.claimed and not self._drain.begun:
                self._releases.put(tunnel.project_id, tunnel.generation, tunnel.id)

    async def _introduce(self, tunnel: Tunnel, hello: Hello, claims: TunnelClaims) -> None:
        """Claim the project and answer the introduction, or raise `_Refused`."""
        if hello.version != PROTOCOL_VERSION:
            raise _Refused(
                GoAwayCode.VERSION,
                f"this server speaks protocol version {PROTOCOL_VERSION}, the client {hello.version}: "
                f"install the whook version of the server",
            )
        if tunnel.watch and not self._switch.has_room_to_watch(tunnel.project_id):
            raise _Refused(GoAwayCode.FULL, f"{tunnel.project} has as many onlookers as it may", _RETRY_FULL)
        if self._drain.begun:  # since the handshake: those that are told to leave have been told
            raise _Refused(GoAwayCode.DRAIN, f"the relay is going away: {self._drain.reason}")
        kick = self._find_kick(claims)
        if kick is not None:  # since the handshake
            raise _Refused(GoAwayCode.REVOKED, kick.reason)
        # Found by its id before its route is published: a conductor may open an exchange at once. What it
        # sends waits in the link until the HELLO below is out.
        self._switch.add(tunnel)
        if not tunnel.watch:
            await self._claim(tunnel, takeover=hello.mode == "takeover")
        answer = Hello(
            version=PROTOCOL_VERSION,
            agent=self._agent,
            peer="relay",
            tunnel_id=tunnel.id,
            heartbeat=self._settings.heartbeat,
            max_exchanges=self._settings.max_exchanges,
        )
        await tunnel.link.send_now(encode_hello(answer))

    async def _claim(self, tunnel: Tunnel, *, takeover: bool) -> None:
        tunnel.claimed = True
        try:
            with self._switch.claims.waiting(tunnel.project_id, tunnel.id) as claim:
                route = await self._directory.claim(
                    project_id=tunnel.project_id,
                    project=tunnel.project,
                    relay_id=self._settings.relay_id,
                    tunnel_id=tunnel.id,
                    instance=tunnel.instance,
                    holder=tunnel.holder,
                    takeover=takeover,
                )
        except RouteHeld as held:
            tunnel.claimed = False
            raise _Refused(
                GoAwayCode.HELD, f"{tunnel.project} is held by {_printable(held.route.holder)}"
            ) from None
        except (LeaseLost, Unavailable) as error:
            raise _Refused(
                GoAwayCode.FULL, f"this relay takes no tunnels now: {error}", self._settings.lease_interval
            ) from None
        older = self._switch.by_project.get(tunnel.project_id)
        if older is not None:  # here already, and maybe the newer one: the bus may tell of it later
            claim.overtake(route_of(older, self._settings.relay_id))
        newer = claim.overtaken_by
        if newer is not None and newer.generation > route.generation:
            if newer.instance == tunnel.instance:
                raise _Refused(GoAwayCode.MOVED, "the client has connected anew")
            raise _Refused(
                GoAwayCode.REPLACED, f"another connection holds the project now: {_printable(newer.holder)}"
            )
        self._switch.hold(tunnel, route.generation)
        if older is not None:  # the bus tells of the route too late to find it
            replace_tunnel(self._switch, older, route)


def _busy(seconds: float) -> ProblemError:
    detail = "Many clients connect at the same time. Come back as Retry-After says."
    return ProblemError(503, "busy", detail=detail, retry_after=math.ceil(seconds))


def _ignore(_: list[Frame]) -> None:
    """Receive nothing from a client that has been refused."""


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())[:_HOLDER_LENGTH]
