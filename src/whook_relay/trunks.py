"""A conductor's trunk: proof of the cluster key, then frames.

`Trunks.handle` is the handler of the trunk listener. A peer that cannot prove itself is refused and logged.
"""

from __future__ import annotations

import trio

from whook.chassis.drain import Drain
from whook.chassis.logs import get_logger
from whook.chassis.tcp import Peer
from whook.link import (
    Heartbeat,
    Link,
    LinkClosed,
    LinkRefused,
    Sender,
    StreamTransport,
    Traffic,
    TrunkRefused,
    introduce_relay,
)
from whook.wire import GoAwayCode, ProtocolError, encode_goaway
from whook_relay.held import Trunk
from whook_relay.settings import RelaySettings
from whook_relay.switch import Switch

_LATE = "the relay has drained"
_log = get_logger("whook.relay.trunk")


class Trunks:
    """Accepts conductors."""

    def __init__(
        self,
        settings: RelaySettings,
        switch: Switch,
        *,
        heartbeat: Heartbeat,
        sender: Sender,
        drain: Drain,
        agent: str,
    ) -> None:
        self._sender = sender
        self._settings = settings
        self._switch = switch
        self._heartbeat = heartbeat
        self._drain = drain
        self._agent = agent
        self.traffic = Traffic()
        self.opened = 0
        self.refused = dict.fromkeys(("key", "introduction"), 0)
        """Connections that became no trunk: without the cluster key, or without a proper introduction."""
        self._key = settings.cluster_key.get_secret_value().encode()

    async def handle(self, stream: trio.SocketStream, peer: Peer) -> None:
        """Serve one trunk from its introduction to its end."""
        if self._drain.begun:
            return  # a conductor that reconnects at once must not keep the relay
        name = f"trunk {peer.host}:{peer.port}"
        link = Link(StreamTransport(stream), name=name, flush_soon=self._sender.add, traffic=self.traffic)
        log = _log.bind(peer=f"{peer.host}:{peer.port}")
        try:
            with trio.fail_after(self._settings.handshake_timeout):
                hello = await introduce_relay(
                    link,
                    self._key,
                    agent=self._agent,
                    instance=self._settings.relay_id,
                    heartbeat=self._settings.heartbeat,
                )
        except TrunkRefused as error:
            self.refused["key"] += 1
            log.warning("trunk refused", reason=str(error))
            return
        except (LinkClosed, LinkRefused, ProtocolError, trio.TooSlowError) as error:
            self.refused["introduction"] += 1
            log.warning("trunk not introduced", reason=str(error) or "no introduction in time")
            return
        trunk = Trunk(link)
        self._heartbeat.add(link)
        self.opened += 1
        log.info("trunk opened", conductor=hello.instance)
        if self._drain.begun:  # it came in the last moment, when the others had been sent away
            link.finish(_LATE, encode_goaway(GoAwayCode.DRAIN, _LATE))
        try:
            await link.run(self._switch.receiver_for_trunk(trunk))
        finally:
            self._switch.remove_trunk(trunk)
            log.info("trunk closed", conductor=hello.instance, reason=link.close_reason)
