"""The switch: carries frames of exchanges between trunks and tunnels.

Its tables change synchronously, in the reader tasks of the links, and nothing in it waits: what it sends goes
to the writer of the other link. It renumbers streams and forwards payloads untouched; credit passes through
from end to end, so a stream holds at most its credit here. It reads of a frame the header, and of an OPEN the
route in front of it. Called by `whook_relay.tunnels` and `whook_relay.trunks`; does no I/O itself.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

import trio

from whook.link import Link
from whook.wire import (
    CREDIT,
    DATA,
    END,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADER,
    OPEN,
    RESET,
    WATCH,
    Frame,
    GoAwayCode,
    ProtocolError,
    ResetCode,
    encode_goaway,
    encode_reset,
    peek_route,
)
from whook_relay.claims import Claims

#: Bytes waiting for a tunnel above which no new exchange is opened on it: its client reads slower than its
#: webhooks come. Those already under way hold up to their credit (256 KiB) each, so this lets a hundred large
#: bodies arrive at once and wait for a slow client instead of being refused.
TUNNEL_BACKLOG: Final = 33_554_432
#: Bytes waiting for an onlooker above which it gets no copy of a new exchange; at twice this it loses those
#: it has. Nobody waits for an onlooker, so what it is behind is memory and nothing else.
WATCHER_BACKLOG: Final = 1_048_576

_pack = HEADER.pack
_COPIED: Final = frozenset({DATA, END})
_ENDING: Final = frozenset({HEAD, DATA})
_FROM_TUNNEL: Final = frozenset({HEAD, DATA, END, RESET, CREDIT})
_REQUEST_ENDED: Final = 1
_RESPONSE_ENDED: Final = 2
_BOTH_ENDED: Final = 3
#: What onlookers are told of a request that does not come to its end.
_BROKEN_OFF: Final = encode_reset(0, ResetCode.CANCELLED, "the exchange was given up")[HEADER.size :]


class State(Enum):
    """Where a tunnel stands."""

    ACTIVE = "active"
    LEAVING = "leaving"  #: told to go elsewhere, still serving
    RETIRED = "retired"  #: gets nothing new, closes when its last exchange has finished


class Circuit:
    """One exchange: a stream on a trunk joined to a stream on a tunnel, and copies for onlookers."""

    __slots__ = ("ended", "trunk", "trunk_id", "tunnel", "tunnel_id", "watchers")

    def __init__(self, trunk: Trunk, trunk_id: int, tunnel: Tunnel, tunnel_id: int) -> None:
        self.trunk = trunk
        self.trunk_id = trunk_id
        self.tunnel = tunnel
        self.tunnel_id = tunnel_id
        self.ended = 0
        self.watchers: list[tuple[Tunnel, int]] | None = None


class Trunk:
    """A conductor's link, as the switch sees it."""

    __slots__ = ("circuits", "last_id", "leaving", "link")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.leaving = ""  #: why it was asked to take leave
        self.circuits: dict[int, Circuit] = {}
        self.last_id = 0


class Tunnel:
    """A client's link, as the switch sees it."""

    __slots__ = (
        "circuits",
        "claimed",
        "generation",
        "holder",
        "id",
        "instance",
        "issued_at",
        "last_id",
        "link",
        "project",
        "project_id",
        "renew_at",
        "state",
        "token_id",
        "user_id",
        "watch",
    )

    def __init__(
        self,
        link: Link,
        *,
        tunnel_id: str,
        project_id: str,
        project: str,
        user_id: str,
        token_id: str,
        instance: str,
        holder: str,
        issued_at: float,
        renew_at: float,
        watch: bool,
    ) -> None:
        self.link = link
        self.id = tunnel_id
        self.project_id = project_id
        self.project = project
        self.user_id = user_id
        self.token_id = token_id
        self.instance = instance
        self.holder = holder
        self.issued_at = issued_at  #: Unix seconds: when its token was minted
        self.renew_at = renew_at  #: Unix seconds: when its client should come with a new token
        self.watch = watch
        self.generation = 0  #: of its route; 0 until it has one, and for an onlooker
        self.claimed = False  #: its route may be in the directory
        self.state = State.ACTIVE
        self.last_id = 0
        self.circuits: dict[int, Circuit] = {}


class Switch:
    """All tunnels and circuits of one relay."""

    def __init__(self, *, max_exchanges: int, max_watchers: int) -> None:
        self._max_exchanges = max_exchanges
        self._max_watchers = max_watchers
        self.routes: dict[bytes, Tunnel] = {}  #: by tunnel id: those that may get new exchanges
        self.by_project: dict[str, Tunnel] = {}  #: the one that answers a project's webhooks
        self.watchers: dict[str, list[Tunnel]] = {}
        self.tunnels: dict[str, Tunnel] = {}  #: every open one, retired ones and onlookers too
        self.trunks: set[Trunk] = set()
        self.claims = Claims()
        self._empty = trio.Event()
        self._no_trunks = trio.Event()
        self.opened = 0
        self.refused = dict.fromkeys(ResetCode, 0)

    # -- tunnels come and go --------------------------------------------------------------------------

    def add(self, tunnel: Tunnel) -> None:
        """Let a tunnel be found by its id. An onlooker gets copies from now on."""
        self.tunnels[tunnel.id] = tunnel
        if not tunnel.watch:
            self.routes[tunnel.id.encode()] = tunnel
        else:
            self.watchers.setdefault(tunnel.project_id, []).append(tunnel)

    def has_room_to_watch(self, project_id: str) -> bool:
        """Whether the project may have one more onlooker."""
        return len(self.watchers.get(project_id, ())) < self._max_watchers

    def hold(self, tunnel: Tunnel, generation: int) -> None:
        """Note that the tunnel holds its project's route of this generation."""
        tunnel.generation = generation
        if tunnel.state is State.RETIRED:
            return  # it was sent away while it claimed the route, and releases it when it closes
        current = self.by_project.get(tunnel.project_id)
        if current is None or current.generation <= generation:
            self.by_project[tunnel.project_id] = tunnel

    def ask_to_leave(self, tunnel: Tunnel, code: GoAwayCode, message: str) -> None:
        """Tell the client to open a new tunnel; this one serves until that one has replaced it."""
        if tunnel.state is State.ACTIVE:
            tunnel.state = State.LEAVING
            tunnel.link.send(encode_goaway(code, message))

    async def wait_empty(self) -> None:
        """Wait until no tunnel is open."""
        while self.tunnels:
            self._empty = trio.Event()
            await self._empty.wait()

    async def wait_no_trunks(self) -> None:
        """Wait until no trunk is open."""
        while self.trunks:
            self._no_trunks = trio.Event()
            await self._no_trunks.wait()

    def send_away(self, trunk: Trunk, message: str) -> None:
        """Ask a conductor to take leave; its trunk closes when it has."""
        trunk.leaving = message
        trunk.link.send(encode_goaway(GoAwayCode.DRAIN, message))

    def retire(self, tunnel: Tunnel, code: GoAwayCode, message: str, *, now: bool = False) -> None:
        """Give the tunnel nothing new, tell its client why, and close it when its last exchange has finished.

        With `now` its exchanges are given up: its client is not there any more.
        """
        if tunnel.state is State.RETIRED:
            return
        tunnel.state = State.RETIRED
        self._forget_route(tunnel)
        farewell = encode_goaway(code, message)
        if now or not tunnel.circuits:
            tunnel.link.finish(message, farewell)
            self._fail_circuits(tunnel, message)
        else:
            tunnel.link.send(farewell)

    def remove(self, tunnel: Tunnel, reason: str) -> None:
        """Forget a tunnel whose link has ended; what ran on it is lost."""
        self.tunnels.pop(tunnel.id, None)
        self._forget_route(tunnel)
        self._fail_circuits(tunnel, reason)
        if not self.tunnels:
            self._empty.set()

    def _forget_route(self, tunnel: Tunnel) -> None:
        if tunnel.watch:
            watchers = self.watchers.get(tunnel.project_id, [])
            if tunnel in watchers:
                watchers.remove(tunnel)
            if not watchers:
                self.watchers.pop(tunnel.project_id, None)
        else:
            self.routes.pop(tunnel.id.encode(), None)
            if self.by_project.get(tunnel.project_id) is tunnel:
                del self.by_project[tunnel.project_id]

    def _fail_circuits(self, tunnel: Tunnel, reason: str) -> None:
        circuits = list(tunnel.circuits.values())
        tunnel.circuits.clear()
        for circuit in circuits:
            circuit.trunk.circuits.pop(circuit.trunk_id, None)
            circuit.trunk.link.send(encode_reset(circuit.trunk_id, ResetCode.TUNNEL_LOST, reason))
            self._copy(circuit, RESET, 0, _BROKEN_OFF)

    # -- frames from conductors -----------------------------------------------------------------------

    def receiver_for_trunk(self, trunk: Trunk) -> Callable[[list[Frame]], None]:
        """Return the function that takes frames from this trunk's reader."""
        self.trunks.add(trunk)
        circuits = trunk.circuits

        def receive(frames: list[Frame]) -> None:
            for kind, flags, stream_id, payload in frames:
                circuit = circuits.get(stream_id)
                if circuit is None:
                    if kind == OPEN:
                        self._open(trunk, flags, stream_id, payload)
                    elif stream_id > trunk.last_id:
                        raise ProtocolError(f"frame of type {kind} for stream {stream_id}, never opened")
                    elif kind == GOAWAY and trunk.leaving:
                        trunk.link.finish(trunk.leaving)  # it opens nothing more, and all is answered
                    continue
                if kind == OPEN:
                    raise ProtocolError(f"stream {stream_id} was opened before")
                circuit.tunnel.link.send_frame(_pack(len(payload), kind, flags, circuit.tunnel_id), payload)
                if circuit.watchers is not None and kind in _COPIED:
                    self._copy(circuit, kind, flags, payload)
                if kind == RESET:
                    self._close(circuit)
                elif kind == END or (kind == DATA and flags & END_STREAM):
                    self._end(circuit, _REQUEST_ENDED)

        return receive

    def _open(self, trunk: Trunk, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id <= trunk.last_id:
            raise ProtocolError(f"stream {stream_id} was opened before")
        trunk.last_id = stream_id
        tunnel = self.routes.get(peek_route(payload))
        if tunnel is None:
            self._refuse(trunk, stream_id, ResetCode.NO_TUNNEL, "the tunnel is not here")
            return
        if len(tunnel.circuits) >= self._max_exchanges or tunnel.link.pending > TUNNEL_BACKLOG:
            self._refuse(trunk, stream_id, ResetCode.OVERLOADED, "the tunnel is busy")
            return
        self.opened += 1
        tunnel.last_id += 1
        circuit = Circuit(trunk, stream_id, tunnel, tunnel.last_id)
        trunk.circuits[stream_id] = circuit
        tunnel.circuits[tunnel.last_id] = circuit
        tunnel.link.send_frame(_pack(len(payload), OPEN, flags, tunnel.last_id), payload)
        if self.watchers:
            self._open_copies(circuit, flags, payload)
        if flags & END_STREAM:
            circuit.ended = _REQUEST_ENDED

    def _refuse(self, trunk: Trunk, stream_id: int, code: ResetCode, message: str) -> None:
        self.refused[code] += 1
        trunk.link.send(encode_reset(stream_id, code, message))

    def remove_trunk(self, trunk: Trunk) -> None:
        """Forget a trunk whose link has ended: nobody waits for its exchanges."""
        self.trunks.discard(trunk)
        if not self.trunks:
            self._no_trunks.set()
        circuits = list(trunk.circuits.values())
        trunk.circuits.clear()
        for circuit in circuits:
            circuit.tunnel.link.send(
                encode_reset(circuit.tunnel_id, ResetCode.CANCELLED, "the conductor is gone")
            )
            self._close(circuit)

    # -- frames from clients --------------------------------------------------------------------------

    def receiver_for_tunnel(self, tunnel: Tunnel) -> Callable[[list[Frame]], None]:
        """Return the function that takes frames from this tunnel's reader."""
        circuits = tunnel.circuits

        def receive(frames: list[Frame]) -> None:
            for kind, flags, stream_id, payload in frames:
                circuit = circuits.get(stream_id)
                if circuit is None:
                    self._receive_aside(tunnel, kind, stream_id)
                    continue
                if kind not in _FROM_TUNNEL:
                    raise ProtocolError(f"a client may not send a frame of type {kind}")
                circuit.trunk.link.send_frame(_pack(len(payload), kind, flags, circuit.trunk_id), payload)
                if kind == RESET:
                    self._close(circuit)
                elif kind == END or (flags & END_STREAM and kind in _ENDING):
                    self._end(circuit, _RESPONSE_ENDED)

        return receive

    def _receive_aside(self, tunnel: Tunnel, kind: int, stream_id: int) -> None:
        if stream_id > tunnel.last_id:
            raise ProtocolError(f"frame of type {kind} for stream {stream_id}, never opened")
        if stream_id:
            return  # crossed our RESET, or answers a copy
        if kind != GOAWAY:
            raise ProtocolError(f"frame of type {kind} without a stream")
        if tunnel.state is not State.RETIRED:
            tunnel.state = State.RETIRED
            self._forget_route(tunnel)
            if not tunnel.circuits:
                tunnel.link.finish("the client left")

    # -- copies for onlookers -------------------------------------------------------------------------

    def _open_copies(self, circuit: Circuit, flags: int, payload: bytes) -> None:
        watchers = self.watchers.get(circuit.tunnel.project_id)
        if not watchers:
            return
        circuit.watchers = []
        for watcher in watchers:
            if watcher.link.pending > WATCHER_BACKLOG:
                continue  # an onlooker that does not keep up misses some, and delays nobody
            watcher.last_id += 1
            circuit.watchers.append((watcher, watcher.last_id))
            watcher.link.send_frame(_pack(len(payload), OPEN, flags | WATCH, watcher.last_id), payload)

    def _copy(self, circuit: Circuit, kind: int, flags: int, payload: bytes) -> None:
        if circuit.watchers is None or circuit.ended & _REQUEST_ENDED:
            return
        for entry in list(circuit.watchers):
            watcher, stream_id = entry
            if watcher.link.pending > 2 * WATCHER_BACKLOG:
                circuit.watchers.remove(entry)
                watcher.link.send(encode_reset(stream_id, ResetCode.OVERLOADED, "the onlooker is too slow"))
            else:
                watcher.link.send_frame(_pack(len(payload), kind, flags, stream_id), payload)

    # -- the ends of circuits -------------------------------------------------------------------------

    def _end(self, circuit: Circuit, direction: int) -> None:
        circuit.ended |= direction
        if circuit.ended == _BOTH_ENDED:
            self._close(circuit)

    def _close(self, circuit: Circuit) -> None:
        if circuit.watchers is not None:
            self._copy(circuit, RESET, 0, _BROKEN_OFF)
        circuit.trunk.circuits.pop(circuit.trunk_id, None)
        tunnel = circuit.tunnel
        tunnel.circuits.pop(circuit.tunnel_id, None)
        if tunnel.state is State.RETIRED and not tunnel.circuits:
            tunnel.link.finish("its last exchange has finished")
