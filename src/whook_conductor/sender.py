"""One sender's connection: its bytes, the requests parsed from them, its one deadline and its end.

Owned by the task that serves the connection; during a streamed exchange a second task reads while that one
writes, so there is always one reader and one writer. Knows nothing of projects or tunnels.

Time: a connection has a single cancel scope, `guard`, whose deadline moves as the connection goes from phase
to phase. Setting a deadline costs a microsecond where a scope for each wait would cost five. Once the guard
has fired the connection is over, and its phase says how it must end (see `ingress`).
"""

from __future__ import annotations

import enum
import math
import struct
from collections import deque
from typing import Final, Protocol

import trio

from whook.chassis.tcp import Peer
from whook.http1 import Failed, RequestEvent, RequestHead, RequestParser
from whook.link import Batch, send_batch, send_now
from whook_conductor.settings import ConductorSettings

RECEIVE_SIZE: Final = 131_072
"""Bytes taken from the socket at a time: a head and what one DATA frame carries, with room to spare."""
RECEIVE_MORE: Final = 262_144
"""The same once that was not enough: of a large body there is commonly more, and each time costs the same."""
BRIEF_LINGER: Final = 1.0
"""Seconds for which a connection is read after its last response when nothing more is due on it: enough for
what
was sent before our end was seen, and little for a drain to wait for."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError)
"""What the socket raises when the sender is not there any more."""


class Phase(enum.Enum):
    """What a connection is doing, and so how it ends when its guard fires."""

    IDLE = "idle"
    """Nothing has begun: close without a word."""
    HEAD = "head"
    """Part of a head is there: 408."""
    WAITING = "waiting"
    """A request is with the far end: 504, or 408 when it is the sender who keeps us waiting."""
    RESPONDING = "responding"
    """The response has begun: only a reset can say that it is broken."""
    LINGERING = "lingering"
    """The response is complete, the request is not: just close."""


class SenderGoneError(Exception):
    """The sender closed or reset the connection in the middle of its request."""


class Rescue(Protocol):
    """What a request still needs once the guard has fired, and takes with a limit of its own."""

    async def rescue(self) -> None:
        """Do it, and report what became of the request."""
        ...

    def report(self) -> None:
        """Only report it: there is no time left."""
        ...


class Sender:
    """The connection of one sender. See the module's docstring for who may call what."""

    __slots__ = (
        "_idle",
        "_parser",
        "_receive_size",
        "_settings",
        "_stream",
        "eof",
        "events",
        "guard",
        "host",
        "linger_for",
        "parting",
        "phase",
        "rescue",
    )

    def __init__(
        self, stream: trio.SocketStream, peer: Peer, settings: ConductorSettings, idle: set[Sender]
    ) -> None:
        """`idle` is where the connection is found while nothing happens on it, to be ended by a drain."""
        self._stream = stream
        self._settings = settings
        self._idle = idle
        self.host = peer.host
        self._receive_size = RECEIVE_SIZE
        self.guard = trio.CancelScope()
        self.phase = Phase.IDLE
        self._parser = RequestParser(max_head=settings.max_head, max_body=settings.max_body)
        self.events: deque[RequestEvent] = deque()
        """What has been parsed and not been taken: at most one receive's worth."""
        self.eof = False
        """The sender has closed its side; ours may still be written to."""
        self.linger_for = 0.0
        """Seconds; the sender may still be sending, so the connection must not just be closed."""
        self.parting = b""
        """What is still to be written when the guard has fired."""
        self.rescue: Rescue | None = None
        """What is still to be done before that."""

    def within(self, seconds: float) -> None:
        """Let the guard fire so many seconds from now."""
        self.guard.deadline = trio.current_time() + seconds

    def unhurried(self) -> None:
        """Let the guard not fire by itself, unless the sender has closed its side and may be gone."""
        if self.eof:
            self.within(self._settings.half_closed_timeout)
        else:
            self.guard.deadline = math.inf

    # -- reading ------------------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        """Return the next raw bytes, or b"" at the end. Raises one of `GONE` when the connection broke."""
        if self.eof:
            return b""
        data = await self._stream.receive_some(self._receive_size)
        self._receive_size = RECEIVE_MORE if len(data) >= RECEIVE_SIZE else RECEIVE_SIZE
        if not data:
            self.eof = True
        return bytes(data)

    async def next_head(self) -> RequestHead | Failed | None:
        """Return the next request's head, what is wrong with it, or None when there will be none.

        The guard watches the idle time until the first byte of a head, then the time for the whole head.
        """
        events = self.events
        if self._parser.upgrade_pending:
            events.extend(self._parser.refuse_upgrade())  # whatever the answer was, it was not 101
        if not events and not await self._await_head():
            return None
        event = events.popleft()
        self.phase = Phase.WAITING
        assert isinstance(event, (RequestHead, Failed)), event
        return event

    async def _await_head(self) -> bool:
        events, idle = self.events, self._idle
        try:
            self._begin_wait()
            while not events:
                data = await self.receive()
                if not data:
                    return False
                events.extend(self._parser.feed(data))
                if self.phase is Phase.IDLE and self._parser.head_started:
                    self._begin_wait()
        finally:
            idle.discard(self)
        return True

    def _begin_wait(self) -> None:
        if self._parser.head_started:
            self.phase = Phase.HEAD
            self._idle.discard(self)
            self.within(self._settings.header_timeout)
        else:
            self.phase = Phase.IDLE
            self._idle.add(self)
            self.within(self._settings.idle_timeout)

    async def read_more(self) -> None:
        """Read once and parse it into `events`. Raises `SenderGoneError` when the connection broke."""
        try:
            data = await self.receive()
        except GONE as error:
            raise SenderGoneError from error
        if data:
            self.events.extend(self._parser.feed(data))

    def accept_upgrade(self) -> bytes:
        """Give the connection to the other protocol; return what the sender has sent of it already."""
        return self._parser.accept_upgrade()

    async def receive_raw(self) -> bytes:
        """Return the next bytes of another protocol, b"" at the end. Raises `SenderGoneError`."""
        try:
            return await self.receive()
        except GONE as error:
            raise SenderGoneError from error

    def may_send_more(self, *, unfinished: bool) -> None:
        """Let the close linger: fully for an unfinished request, else in case another one was sent."""
        self.linger_for = self._settings.linger_timeout if unfinished else BRIEF_LINGER

    # -- writing ------------------------------------------------------------------------------------------

    async def write(self, data: Batch) -> None:
        """Write all of `data` under the guard's present deadline. Raises `SenderGoneError`."""
        try:
            rest = send_now(self._stream, data)  # nearly always all, at half the cost
            if rest:
                await send_batch(self._stream, rest)
        except GONE as error:
            raise SenderGoneError from error

    async def write_stream(self, data: Batch) -> None:
        """Write a part of a streamed response: a sender that takes nothing of it for long is cut off."""
        self.within(self._settings.write_timeout)
        await self.write(data)
        self.unhurried()

    async def end_write(self) -> None:
        """Close our side and leave the sender's open. Raises `SenderGoneError`."""
        try:
            await self._stream.send_eof()
        except GONE as error:
            raise SenderGoneError from error

    def abort(self) -> None:
        """Make the coming close a reset, so that what was sent cannot pass for the whole."""
        try:
            self._stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError:
            return  # the connection is gone already, which says the same

    async def linger(self) -> None:
        """Close our side, then read and throw away until the sender closes its own or time is up.

        Closing with unread bytes would make the system send a reset, and the sender could lose the response
        that is still on its way (RFC 9112 section 9.6).
        """
        with trio.move_on_after(self.linger_for):
            try:
                await self._stream.send_eof()
                while not self.eof:
                    await self.receive()
            except GONE:
                return
