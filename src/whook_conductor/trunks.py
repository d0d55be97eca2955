"""The trunks: one link from this conductor to every live relay, kept up by a task each.

Owns which relays are connected and opens exchanges on their links. The ingress calls `open`, which never
waits; the relay watcher calls `update`. A trunk whose relay left the directory is not cut: what runs on it
finishes, and the relay, or its silence, ends it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import structlog
import trio

from whook.backplane.ports import RelayInfo, Route
from whook.chassis.metrics import Durations, Publisher
from whook.chassis.published import publish_heartbeat, publish_links
from whook.link import (
    Exchange,
    Heartbeat,
    Link,
    LinkClosed,
    LinkRefused,
    Opener,
    Sender,
    StreamTransport,
    Tally,
    Traffic,
    TrunkRefused,
    introduce_conductor,
)
from whook.wire import GoAwayCode, ProtocolError, Request, ResetCode, encode_goaway
from whook_conductor.retry import Retry

_HEARTBEAT: Final = 20.0
"""Seconds between signs of life on a silent trunk; one that misses it is gone within 30 s."""

_NO_TRUNK: Final = (OSError, trio.TooSlowError, LinkClosed, ProtocolError, LinkRefused, TrunkRefused)
"""How an attempt to reach a relay fails."""

_log = structlog.get_logger("whook.conductor.trunks")


class _Trunk:
    """One relay as the trunks see it."""

    __slots__ = ("opener", "pause", "relay", "wanted")

    def __init__(self, relay: RelayInfo) -> None:
        self.relay = relay
        self.opener: Opener | None = None
        self.wanted = True
        self.pause = trio.CancelScope()
        """Around the pause before the next attempt."""


class Trunks:
    """Links to all relays. `run` keeps them; everything else is synchronous or waits for one to come up."""

    def __init__(
        self, key: bytes, *, agent: str, instance: str, max_exchanges: int, connect_timeout: float, cap: float
    ) -> None:
        """`key` is the cluster key; `cap` the longest pause between two attempts, in seconds."""
        self._key = key
        self._agent = agent
        self._instance = instance
        self._max_exchanges = max_exchanges
        self._connect_timeout = connect_timeout
        self._cap = cap
        self._trunks: dict[str, _Trunk] = {}
        self._new: list[_Trunk] = []
        self._wake = trio.Event()
        self._changed = trio.Event()
        """Set, and made anew, whenever a trunk comes up."""
        self._heartbeat = Heartbeat(_HEARTBEAT)
        self._sender = Sender()
        self._traffic = Traffic()
        self._to_head = Durations()
        self._tally = Tally(self._to_head.observe)
        self._attempts = dict.fromkeys(("up", "failed"), 0)
        self._lost = 0

    def publish(self, to: Publisher) -> None:
        """Publish what the trunks are and carry, and what became of the exchanges on them."""
        tally = self._tally
        to.gauge("whook_conductor_trunks", "Trunks that are up.", lambda: self.connected)
        to.gauge("whook_relays", "Relays that a trunk is wanted to.", self._wanted)
        tried = "Attempts to open a trunk, by what became of them; each after the first is a reconnect."
        to.counts("whook_conductor_trunk_attempts", tried, self._attempts, "result")
        ended = "Trunks that were up and have ended."
        to.counter("whook_conductor_trunks_lost", ended, lambda: self._lost)
        to.gauge("whook_exchanges", "Requests that are with a relay.", lambda: self.active)
        to.counter("whook_exchanges_opened", "Requests handed to a relay.", lambda: tally.opened)
        broken = "Requests handed to a relay that came back without an answer, by the reason."
        for code in tally.resets:
            reason = ResetCode(code).name.lower() if code else "unknown"
            to.counter(
                "whook_exchange_resets", broken, partial(tally.resets.__getitem__, code), reason=reason
            )
        meaning = "From handing a request to a relay to the head of its response."
        to.durations("whook_exchange_seconds", meaning, self._to_head)
        publish_links(to, "trunk", "conductor", self._traffic, self._openers)
        publish_heartbeat(to, "conductor", self._heartbeat)

    def _openers(self) -> list[Opener]:
        return [trunk.opener for trunk in self._trunks.values() if trunk.opener is not None]

    def _wanted(self) -> int:
        return sum(trunk.wanted for trunk in self._trunks.values())

    @property
    def connected(self) -> int:
        """Trunks that are up."""
        return sum(map(self.is_up, self._trunks))

    @property
    def active(self) -> int:
        """Exchanges that are under way."""
        return sum(trunk.opener.active for trunk in self._trunks.values() if trunk.opener is not None)

    def open(self, route: Route, request: Request, body: bytes, *, end: bool) -> Exchange:
        """Open an exchange on the trunk of the route's relay.

        Raises:
            LinkClosed: there is no such trunk, or not now.
            TooManyExchanges: it is full.
            ValueError: the head is too long for the wire.
        """
        trunk = self._trunks.get(route.relay_id)
        if trunk is None or trunk.opener is None:
            raise LinkClosed("no trunk to this relay")
        return trunk.opener.open(route.tunnel_id.encode("ascii"), request, body=body, end=end)

    def is_up(self, relay_id: str) -> bool:
        """Tell whether exchanges can be opened on the trunk to this relay."""
        trunk = self._trunks.get(relay_id)
        return trunk is not None and trunk.opener is not None and trunk.opener.goaway is None

    @property
    def changed(self) -> trio.Event:
        """Set when the next trunk comes up."""
        return self._changed

    async def wait_up(self, relay_id: str) -> None:
        """Wait until the trunk to this relay is up; bound it with a deadline."""
        while not self.is_up(relay_id):
            await self._changed.wait()

    def update(self, relays: Iterable[RelayInfo]) -> None:
        """Take the list of live relays: connect to new ones, do not reconnect to those that left."""
        live = {relay.id: relay for relay in relays}
        for relay_id, trunk in self._trunks.items():
            if trunk.wanted != (relay_id in live):
                trunk.wanted = not trunk.wanted
                trunk.pause.cancel()  # it is back, so connect at once; or it is gone for good
            if trunk.wanted:
                moved = live[relay_id].trunk_url != trunk.relay.trunk_url
                trunk.relay = live[relay_id]
                if moved and trunk.opener is not None:
                    # A name is one process: whatever answered at the old address is not this relay any more.
                    trunk.opener.link.close("the relay has moved")
        for relay_id, relay in live.items():
            if relay_id not in self._trunks:
                self._trunks[relay_id] = trunk = _Trunk(relay)
                self._new.append(trunk)
        if self._new:
            self._wake.set()

    async def run(self) -> None:
        """Keep a trunk to every relay of the last update, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._heartbeat.run, name="trunk heartbeat")
            nursery.start_soon(self._sender.run, name="trunk sender")
            while True:
                for trunk in self._new:
                    nursery.start_soon(self._keep, trunk, name=f"trunk {trunk.relay.id}")
                self._new.clear()
                self._wake = trio.Event()
                await self._wake.wait()

    async def _keep(self, trunk: _Trunk) -> None:
        """Connect, carry, and connect again, as long as the relay is wanted."""
        retry = Retry(self._cap)
        log = _log.bind(relay=trunk.relay.id)
        told = ""
        try:
            while trunk.wanted:
                try:
                    with trio.fail_after(self._connect_timeout):
                        link = await self._connect(trunk.relay)
                except _NO_TRUNK as error:
                    self._attempts["failed"] += 1
                    reason = str(error) or type(error).__name__
                    if reason != told:  # once, not at every attempt
                        log.warning("no trunk to this relay", reason=reason)
                        told = reason
                else:
                    told = ""
                    self._attempts["up"] += 1
                    began = trio.current_time()
                    await self._carry(trunk, link)
                    if trio.current_time() - began > self._cap:
                        retry.reset()  # one that falls at once would otherwise be retried without a pause
                with trio.CancelScope() as trunk.pause:
                    await retry.pause()
                if trunk.pause.cancelled_caught:
                    retry.reset()
        finally:
            if self._trunks.get(trunk.relay.id) is trunk:
                del self._trunks[trunk.relay.id]

    async def _connect(self, relay: RelayInfo) -> Link:
        parts = urlsplit(relay.trunk_url)
        if parts.scheme != "tcp" or not parts.hostname or not parts.port:
            raise LinkClosed(f"not a trunk address: {relay.trunk_url}")
        stream = await trio.open_tcp_stream(parts.hostname, parts.port)
        introduced = False
        try:
            link = Link(
                StreamTransport(stream),
                name=f"trunk {relay.id}",
                flush_soon=self._sender.add,
                traffic=self._traffic,
            )
            await introduce_conductor(link, self._key, agent=self._agent, instance=self._instance)
            introduced = True
        finally:
            if not introduced:
                stream.socket.close()
        return link

    async def _carry(self, trunk: _Trunk, link: Link) -> None:
        # The relay waits for our own GOAWAY: behind it comes no exchange any more.
        opener = Opener(
            link,
            max_exchanges=self._max_exchanges,
            on_goaway=lambda goaway: link.send(encode_goaway(GoAwayCode.DRAIN, goaway.message)),
            tally=self._tally,
        )
        trunk.opener = opener
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        self._heartbeat.add(link)
        _log.info("trunk up", relay=trunk.relay.id)
        try:
            reason = await opener.run()
        finally:
            trunk.opener = None
            self._lost += 1
        _log.info("trunk down", relay=trunk.relay.id, reason=reason)
