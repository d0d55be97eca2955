"""The stream states at the two ends of the wire: who may send what next, and how much.

Two rules, from which everything else follows:

1. The two directions of a stream are independent. Each goes through the phases of `_NEXT` below, and a
   stream is forgotten when both have ended, or at once when either side resets it.
2. A frame that the table does not allow is the peer's fault. On a stream it costs that stream alone, which
   is reset: behind a relay the peer is one of many tunnels that share a trunk. On the link itself (stream 0,
   a stream that was never opened) it ends the link with `ProtocolError`. On a stream that is already
   forgotten it is ignored: its last frames may have crossed our RESET.

The opener (conductor) opens streams; the answerer (CLI) answers them. The relay is neither: it switches
frames between links without keeping these states. Methods that send return the bytes to send and change
the table at once, so that state never spans an await. Called by `whook.link`.
"""

from enum import Enum
from typing import Final

from whook.wire.errors import CreditExceeded, ProtocolError, StreamClosed, StreamsExhausted
from whook.wire.frames import (
    CREDIT,
    DATA,
    END,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADER,
    HELLO,
    INITIAL_CREDIT,
    MAX_PAYLOAD,
    MAX_STREAM_ID,
    OPEN,
    RESET,
    WATCH,
    Frame,
    encode_frame,
)
from whook.wire.messages import (
    Headers,
    Request,
    ResetCode,
    Response,
    decode_goaway,
    decode_hello,
    decode_open,
    decode_reset,
    decode_response,
    decode_trailers,
    encode_end,
    encode_open,
    encode_reset,
    encode_response,
)
from whook.wire.streams import (
    CreditReceived,
    DataReceived,
    Ended,
    Event,
    GoAwayReceived,
    HeadReceived,
    HelloReceived,
    Opened,
    Phase,
    Stream,
    WasReset,
)


class Role(Enum):
    """Which end of the wire this is."""

    OPENER = "opener"
    ANSWERER = "answerer"


#: What each frame does to the direction it travels in: (phase, frame type) -> phase without END_STREAM.
#: An informational response (1xx) leaves HEAD where it is; END_STREAM makes it DONE.
_NEXT: Final = {
    (Phase.HEAD, HEAD): Phase.BODY,
    (Phase.BODY, DATA): Phase.BODY,
    (Phase.BODY, END): Phase.DONE,
}

#: Grant credit back once this much has been consumed: half a window keeps the sender running and costs
#: one small frame for every 128 KiB.
_GRANT_AT: Final = INITIAL_CREDIT // 2
#: A peer may grant at most this much in all, so that a sum of grants cannot grow without limit.
_MAX_CREDIT: Final = 1 << 30
#: Heads are not under credit, and any number of informational ones (1xx) may precede the final one. Together
#: they may be as long as that one, so that a peer cannot fill the memory of one that does not keep up.
_MAX_INFORMATIONAL: Final = MAX_PAYLOAD
_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL_STATUS: Final = 200


class Endpoint:
    """All streams of one link, at one of its ends."""

    __slots__ = ("_last_id", "_replies", "_role", "streams")

    def __init__(self, role: Role) -> None:
        self._role = role
        self._last_id = 0
        self._replies: list[bytes] = []
        self.streams: dict[int, Stream] = {}

    # -- sending: change the table, return the bytes --------------------------------------------------

    def open(self, route: bytes, request: Request, *, end: bool) -> tuple[Stream, bytes]:
        """Open a stream; `end` when no body follows.

        Raises:
            ValueError: the head does not fit a frame (`MAX_PAYLOAD`), or the route 255 bytes.
            StreamsExhausted: the link has used up its stream ids.
            RuntimeError: this is not the opener.
        """
        stream_id = self._last_id + 1
        if self._role is not Role.OPENER:
            raise RuntimeError("only the opener opens streams")
        if stream_id > MAX_STREAM_ID:
            raise StreamsExhausted("this link has used up its stream ids")
        frame = encode_open(stream_id, END_STREAM if end else 0, route, request)
        self._last_id = stream_id
        stream = Stream(stream_id, Phase.DONE if end else Phase.BODY, Phase.HEAD)
        self.streams[stream_id] = stream
        return stream, frame

    def send_head(self, stream: Stream, response: Response, *, end: bool = False) -> bytes:
        """Answer with a head; one with status 1xx other than 101 may be followed by more heads.

        Raises:
            StreamClosed: a head is not what this stream can send now.
            ValueError: the head does not fit a frame, or an informational one is to end the stream.
        """
        if stream.local is not Phase.HEAD:
            raise StreamClosed(f"stream {stream.id} has no head to send")
        informational = _is_informational(response.status)
        if informational and end:
            raise ValueError("an informational response cannot end a stream")
        frame = encode_response(stream.id, END_STREAM if end else 0, response)
        if not informational:
            stream.local = Phase.BODY
        if end:
            self._end_local(stream)
        return frame

    def send_data(self, stream: Stream, data: bytes, *, end: bool = False) -> bytes:
        """Send a piece of a body, at most `MAX_PAYLOAD` and within the credit.

        Raises:
            StreamClosed: this direction is not in its body.
            CreditExceeded: more than the peer has granted.
        """
        return self.begin_data(stream, len(data), end=end) + data

    def begin_data(self, stream: Stream, size: int, *, end: bool = False) -> bytes:
        """Do what `send_data` does, and raise what it raises, but return only what goes before the piece.

        So a large piece need not be copied to stand behind it.
        """
        if stream.local is not Phase.BODY:
            raise StreamClosed(f"stream {stream.id} is not in its body")
        if size > stream.credit or size > MAX_PAYLOAD:
            raise CreditExceeded(f"{size} bytes offered, {stream.credit} granted")
        stream.credit -= size
        if end:
            self._end_local(stream)
        return HEADER.pack(size, DATA, END_STREAM if end else 0, stream.id)

    def send_end(self, stream: Stream, trailers: Headers) -> bytes:
        """End this direction, with trailers or without.

        Raises:
            StreamClosed: this direction is not in its body.
            ValueError: the trailers do not fit a frame.
        """
        if stream.local is not Phase.BODY:
            raise StreamClosed(f"stream {stream.id} is not in its body")
        frame = encode_end(stream.id, trailers)
        self._end_local(stream)
        return frame

    def reset(self, stream: Stream, code: int, message: str = "") -> bytes:
        """Give the stream up in both directions; nothing to send (b"") when it is forgotten already."""
        if self.streams.pop(stream.id, None) is None:
            return b""
        stream.local = stream.remote = Phase.DONE
        return encode_reset(stream.id, code, message)

    def consume(self, stream: Stream, size: int) -> bytes:
        """Note that `size` received bytes have been taken; return the grant that this makes due, if any."""
        if stream.remote is Phase.DONE or stream.watch:
            return b""
        stream.consumed += size
        if stream.consumed < _GRANT_AT:
            return b""
        grant = stream.consumed
        stream.consumed = 0
        stream.window += grant
        return encode_frame(CREDIT, 0, stream.id, grant.to_bytes(4, "big"))

    # -- receiving ------------------------------------------------------------------------------------

    def receive(self, frames: list[Frame]) -> list[Event]:
        """Apply received frames in order and return what they mean.

        Raises:
            ProtocolError: the peer broke the link's own rules; the endpoint is void from then on.
        """
        events: list[Event] = []
        for kind, flags, stream_id, payload in frames:
            if stream_id == 0:
                events.append(self._receive_link(kind, payload))
                continue
            if kind == OPEN:
                opened = self._receive_open(flags, stream_id, payload)
                if opened is not None:
                    events.append(opened)
                continue
            stream = self.streams.get(stream_id)
            if stream is None:
                if stream_id > self._last_id:
                    raise ProtocolError(f"frame of type {kind} for stream {stream_id}, never opened")
                continue
            try:
                event = self._receive_on(stream, kind, flags, payload)
            except ProtocolError as error:
                self._replies.append(self.reset(stream, ResetCode.PROTOCOL, str(error)))
                event = WasReset(stream, ResetCode.PROTOCOL, str(error))
            if event is not None:
                events.append(event)
        return events

    def take_replies(self) -> bytes:
        """Return the frames that received ones made due: resets of streams where the peer was at fault."""
        replies = b"".join(self._replies)
        self._replies.clear()
        return replies

    def _receive_on(self, stream: Stream, kind: int, flags: int, payload: bytes) -> Event | None:
        if kind == RESET:
            reset = decode_reset(payload)
            del self.streams[stream.id]
            stream.local = stream.remote = Phase.DONE
            return WasReset(stream, reset.code, reset.message)
        if kind == CREDIT:
            return self._receive_credit(stream, payload)
        following = _NEXT.get((stream.remote, kind))
        if following is None:
            raise ProtocolError(f"frame of type {kind} for stream {stream.id} in phase {stream.remote.value}")
        ended = kind == END or bool(flags & END_STREAM)
        event: Event
        if kind == DATA:
            if not payload and not ended:
                return None  # says nothing, costs no credit, and must not fill a queue
            stream.window -= len(payload)
            if stream.window < 0 and not stream.watch:
                raise ProtocolError(f"stream {stream.id} sent {-stream.window} bytes above its credit")
            event = DataReceived(stream, payload, ended)
        elif kind == HEAD:
            response = decode_response(payload)
            if _is_informational(response.status):
                if ended:
                    raise ProtocolError("an informational response cannot end a stream")
                stream.informational += len(payload)
                if stream.informational > _MAX_INFORMATIONAL:
                    raise ProtocolError(f"stream {stream.id} sent too many informational responses")
                following = Phase.HEAD
            event = HeadReceived(stream, response, ended)
        else:
            event = Ended(stream, decode_trailers(payload))
        if ended:
            self._end_remote(stream)
        else:
            stream.remote = following
        return event

    def _receive_link(self, kind: int, payload: bytes) -> Event:
        if kind == HELLO:
            return HelloReceived(decode_hello(payload))
        if kind == GOAWAY:
            return GoAwayReceived(decode_goaway(payload))
        raise ProtocolError(f"frame of type {kind} without a stream")

    def _receive_open(self, flags: int, stream_id: int, payload: bytes) -> Event | None:
        if self._role is not Role.ANSWERER:
            raise ProtocolError("only the opener opens streams")
        if stream_id <= self._last_id:
            raise ProtocolError(f"stream {stream_id} was opened before")
        self._last_id = stream_id
        try:
            request = decode_open(payload)
        except ProtocolError as error:
            self._replies.append(encode_reset(stream_id, ResetCode.PROTOCOL, str(error)))
            return None
        ended = bool(flags & END_STREAM)
        watch = bool(flags & WATCH)
        remote = Phase.DONE if ended else Phase.BODY
        stream = Stream(stream_id, Phase.DONE if watch else Phase.HEAD, remote, watch=watch)
        if not (watch and ended):
            self.streams[stream_id] = stream
        return Opened(stream, request, ended)

    def _receive_credit(self, stream: Stream, payload: bytes) -> Event | None:
        grant = int.from_bytes(payload, "big") if len(payload) == 4 else 0
        if not grant or stream.credit + grant > _MAX_CREDIT:
            raise ProtocolError(f"stream {stream.id} was granted an impossible credit")
        stream.credit += grant
        return CreditReceived(stream) if stream.local is not Phase.DONE else None

    # -- the ends of directions -----------------------------------------------------------------------

    def _end_local(self, stream: Stream) -> None:
        stream.local = Phase.DONE
        if stream.remote is Phase.DONE:
            self.streams.pop(stream.id, None)

    def _end_remote(self, stream: Stream) -> None:
        stream.remote = Phase.DONE
        if stream.local is Phase.DONE:
            self.streams.pop(stream.id, None)


def _is_informational(status: int) -> bool:
    return status < _FIRST_FINAL_STATUS and status != _SWITCHING_PROTOCOLS
