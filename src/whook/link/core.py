"""A link: frames over one transport, with one reader and one writer.

The reader hands received frames to a synchronous function, so it never waits for a slow stream; the writer
sends whatever has gathered since its last send in one message. Nothing else sends, and nothing cancels a send
but the end of the link (a torn send would corrupt the frames behind it). The writer is a task of the link's
own, or a `whook.link.sender` that many links share. Liveness is the business of `whook.link.heartbeat`.
Used by trunks and tunnels alike, at both ends; what the frames mean is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import trio

from whook.link.errors import LinkClosed, LinkRefused
from whook.link.transport import LARGE, Batch, Buffer, SwiftTransport, Transport, gathered
from whook.link.wakeup import Wakeup
from whook.wire import (
    ACK,
    GOAWAY,
    HEADER_SIZE,
    HELLO,
    PING,
    PONG_FRAME,
    Frame,
    FrameReader,
    GoAwayCode,
    Hello,
    ProtocolError,
    decode_goaway,
    decode_hello,
    encode_goaway,
)

Receiver = Callable[[list[Frame]], None]

#: Bytes gathered into one message at most (a frame more may exceed it): well under the peer's limit for a
#: WebSocket message, and enough that a bulk transfer is not slowed by the number of messages.
_BATCH: Final = 262_144
#: Bytes waiting to be sent above which senders that can wait should: a second's worth on a slow uplink.
HIGH_WATER: Final = 1_048_576
#: Seconds that a dying link may spend on telling the peer why.
_LAST_WORDS: Final = 2.0
#: Seconds that a finishing link may take to send what is pending: a peer that does not read must not keep it.
_FINISH: Final = 10.0


class Link:
    """One connection that speaks the wire.

    Attributes:
        name: for logs and task names.
        pending: bytes waiting to be sent.
        heard: set whenever something came in; cleared by the heartbeat.
        silent_ticks: kept by the heartbeat.
        close_reason: why the link ended; empty while it lives.
    """

    __slots__ = (
        "__weakref__",
        "_closing",
        "_drained",
        "_due",
        "_early",
        "_expiry_reason",
        "_finish_reason",
        "_flush_soon",
        "_out",
        "_reader",
        "_running",
        "_scope",
        "_slow",
        "_transport",
        "_wakeup",
        "close_reason",
        "heard",
        "name",
        "pending",
        "silent_ticks",
    )

    def __init__(
        self, transport: Transport, *, name: str, flush_soon: Callable[[Link], None] | None = None
    ) -> None:
        """Without `flush_soon` the link has a task of its own that writes.

        It is `Sender.add` of a sender that does so for many links; `transport` is then a `SwiftTransport`.
        """
        self.name = name
        self.pending = 0
        self.heard = True
        self.silent_ticks = 0
        self.close_reason = ""
        self._transport = transport
        self._out: list[Buffer] = []
        self._wakeup = Wakeup()
        self._drained: trio.Event | None = None
        self._scope = trio.CancelScope()
        self._reader = FrameReader()
        self._early: list[Frame] = []
        self._closing = False
        self._flush_soon = flush_soon
        self._running = False
        self._due = False  #: the sender will come to it
        self._slow = False  #: a task is at the rest of a message, and at whatever gathers meanwhile
        self._finish_reason = "finished"
        self._expiry_reason = "expired"

    @property
    def closed(self) -> bool:
        """True once nothing more will be sent or received."""
        return bool(self.close_reason)

    # -- before run(): the introduction ---------------------------------------------------------------

    async def send_now(self, data: bytes) -> None:
        """Send before `run()` has started; bound it with a deadline. Raises `LinkClosed`."""
        await self._transport.send(data)

    async def receive_hello(self) -> Hello:
        """Return the peer's introduction; bound it with a deadline.

        Frames that follow it are kept for `run()`.

        Raises:
            LinkRefused: the peer answered GOAWAY.
            LinkClosed: the connection ended.
            ProtocolError: anything else came first.
        """
        while not self._early:
            data = await self._transport.receive()
            if not data:
                raise LinkClosed("the peer closed the connection before introducing itself")
            self._early = self._reader.feed(data)
        kind, _, stream, payload = self._early.pop(0)
        if kind == GOAWAY:
            raise LinkRefused(decode_goaway(payload))
        if kind != HELLO or stream != 0:
            raise ProtocolError(f"expected HELLO, received a frame of type {kind}")
        return decode_hello(payload)

    # -- sending --------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Hand whole frames to the writer. Never waits; does nothing on a closed link."""
        if self._closing:
            return
        self._out.append(data)
        self.pending += len(data)
        self._wake_writer()

    def send_frame(self, header: bytes, payload: Buffer) -> None:
        """Hand one frame to the writer, as `send` does; a large payload is sent from where it lies.

        `payload` must not change.
        """
        size = len(payload)
        if size < LARGE:
            self.send(header + payload)
        elif not self._closing:
            self._out += (header, payload)
            self.pending += len(header) + size
            self._wake_writer()

    def _wake_writer(self) -> None:
        if self._flush_soon is None:
            self._wakeup.wake()
        elif self._running and not self._due:
            self._due = True
            self._flush_soon(self)

    async def wait_writable(self) -> None:
        """Wait while more than `HIGH_WATER` bytes are pending. Raises `LinkClosed`."""
        while self.pending > HIGH_WATER and not self.close_reason:
            await self._progress()
        if self.close_reason:
            raise LinkClosed(self.close_reason)

    def close(self, reason: str) -> None:
        """End the link now; what is pending is lost."""
        if not self.close_reason:
            self.close_reason = reason
        self._closing = True
        self._scope.cancel(reason=reason)

    def expire_after(self, seconds: float, reason: str) -> None:
        """Let `run()` end that many seconds from now."""
        self._scope.deadline = trio.current_time() + seconds
        self._expiry_reason = reason

    def finish(self, reason: str, last: bytes = b"") -> None:
        """End the link once `last` and all that is pending has been sent, or ten seconds later.

        Until then frames are received.
        """
        if last:
            self.send(last)
        if not self._closing:
            self._closing = True
            self._finish_reason = self._expiry_reason = reason
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + _FINISH)
            self._wake_writer()

    # -- running --------------------------------------------------------------------------------------

    async def run(self, receiver: Receiver) -> str:
        """Carry frames until the link ends, and return why it did (also in `close_reason`).

        `receiver` gets the frames of each message in order, PING apart; it must not block. What it raises, a
        `ProtocolError` apart, is a defect and leaves as it is or in an exception group.
        """
        last_words = 0.0  # ended from outside, nobody has time for a closing handshake
        try:
            with self._scope:
                if self._flush_soon is None:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._write, name=f"{self.name} writer")
                        await self._read(receiver)
                        nursery.cancel_scope.cancel()
                else:
                    self._running = True
                    self._wake_writer()
                    await self._read(receiver)
            last_words = _LAST_WORDS
        finally:
            self._running = False
            self._closing = True
            if not self.close_reason:
                self.close_reason = self._expiry_reason if self._scope.cancelled_caught else "cancelled"
            self._out.clear()
            if self._drained is not None:
                self._drained.set()
            with trio.move_on_after(last_words, shield=True):
                await self._transport.aclose()
        return self.close_reason

    async def _read(self, receiver: Receiver) -> None:
        transport, feed = self._transport, self._reader.feed
        frames, self._early = self._early, []
        try:
            while True:
                if frames:
                    self._dispatch(frames, receiver)
                data = await transport.receive()
                if not data:
                    self._ended("the peer closed the connection")
                    return
                self.heard = True
                frames = feed(data)
        except LinkClosed as error:
            self._ended(str(error))
        except ProtocolError as error:
            self._ended(f"protocol error: {error}")
            await self._say_why(str(error))

    def _dispatch(self, frames: list[Frame], receiver: Receiver) -> None:
        # A PING may be coalesced with other frames; the list is copied only when there is one.
        for frame in frames:
            if frame[0] == PING:
                if not frame[1] & ACK:
                    self.send(PONG_FRAME)
                frames = [other for other in frames if other[0] != PING]
                break
        if frames:
            receiver(frames)

    def _ended(self, reason: str) -> None:
        if not self.close_reason:
            self.close_reason = reason
        self._closing = True

    async def _say_why(self, message: str) -> None:
        # The writer may be in the middle of a send, so the farewell goes through it, not around it.
        farewell = encode_goaway(GoAwayCode.PROTOCOL, message)
        self._out.append(farewell)
        self.pending += len(farewell)
        self._wake_writer()
        with trio.move_on_after(_LAST_WORDS):
            while self.pending:
                await self._progress()

    async def _progress(self) -> None:
        if self._drained is None:
            self._drained = trio.Event()
        await self._drained.wait()

    async def _write(self) -> None:
        try:
            while not self._closing or self._out:
                if self._out:
                    await self._write_out()
                else:
                    await self._wakeup.wait()
            self.close(self._finish_reason)
        except LinkClosed as error:
            self.close(str(error))

    async def _write_out(self) -> None:
        while self._out:
            data, size = self._take_batch()
            await self._transport.send(data)
            self._sent(size)

    def _sent(self, size: int) -> None:
        self.pending -= size
        if self._drained is not None and self.pending <= HIGH_WATER:
            self._drained.set()
            self._drained = None

    # -- by a sender that many links share ------------------------------------------------------------

    def flush(self) -> tuple[Batch, int] | None:
        """Send what has gathered, as far as that needs no waiting. Called by the sender.

        Returns what `send_slowly` is to be started with, if it is needed.
        """
        self._due = False
        if self._slow or not self._running:
            return None
        transport = cast("SwiftTransport", self._transport)
        try:
            while self._out:
                data, size = self._take_batch()
                rest = transport.try_send(data)
                if rest:
                    self._slow = True
                    return rest, size
                self._sent(size)
        except LinkClosed as error:
            self.close(str(error))
            return None
        if self._closing:
            self.close(self._finish_reason)
        return None

    async def send_slowly(self, rest: Batch, size: int) -> None:
        """Send what `flush` could not, and what gathers meanwhile. Run by the sender."""
        try:
            await cast("SwiftTransport", self._transport).send_rest(rest)
            self._sent(size)
            await self._write_out()
            self._slow = False
            if self._closing:
                self.close(self._finish_reason)
        except LinkClosed as error:
            self.close(str(error))

    def _take_batch(self) -> tuple[Batch, int]:
        """Take what goes out next off the queue; return it and its size in bytes."""
        out, size = self._out, self.pending  # of what was taken before, all has been sent
        if size < LARGE:
            self._out = []
            return b"".join(out), size
        if size <= _BATCH:
            self._out = []
            return gathered(out), size
        size = count = 0
        for piece in out:
            size += len(piece)
            count += 1
            header = len(piece) == HEADER_SIZE and count < len(out) and len(out[count]) >= LARGE
            if size >= _BATCH and not header:  # which stays with its payload
                break
        batch = gathered(out[:count])
        del out[:count]
        return batch, size
