"""What both parsers have in common: finding heads, counting limits, delimiting bodies.

Subclassed by `request.py` and `response.py`. llhttp judges every head (one parser object for each, which
costs less than keeping one in step with the body); the bytes of the body never pass through it. Must never
read past the limits before it refuses, and must give the same events however the bytes were cut into feeds.
"""

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar, Final, Generic, TypeVar

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade

from whook.http1.chunks import ChunkDecoder
from whook.http1.events import Body, End, Failed, Headers, MessageError, RequestHead, ResponseHead, Upgraded
from whook.http1.sink import HeadParser, Sink

HeadT = TypeVar("HeadT", RequestHead, ResponseHead)

DEFAULT_MAX_HEAD: Final = 65_536
"""Bytes of a head: start line, fields and their line ends."""


class State(Enum):
    """What the next byte is."""

    HEAD = "head"
    LENGTH = "length"
    """Of a body of known length."""
    CHUNKED = "chunked"
    UNTIL_CLOSE = "until close"
    """Of a response body that the end of the connection ends."""
    HELD = "held"
    """Undecided: an Upgrade request is complete and not answered yet."""
    RAW = "raw"
    """Of the protocol that took over."""
    CLOSED = "closed"
    """Of nothing: an error was reported, or the peer announced that this was its last message."""


class MessageReader(ABC, Generic[HeadT]):
    """Bytes in, events out, for a sequence of messages of one role on one connection."""

    __slots__ = (
        "_chunks",
        "_events",
        "_left",
        "_llhttp",
        "_max_body",
        "_max_head",
        "_seen",
        "_sink",
        "_size",
        "_state",
    )

    def __init__(self, *, max_head: int, max_body: int) -> None:
        self._max_head = max_head
        self._max_body = max_body
        self._state = State.HEAD
        self._seen = bytearray()  # of a head that is not complete
        self._size = 0  # of that head so far, with the blank lines before it
        self._sink: Sink | None = None
        self._llhttp: HeadParser | None = None
        self._left = 0
        self._chunks: ChunkDecoder | None = None
        self._events: list[HeadT | Body | End | Upgraded | Failed] = []

    # -- what a role adds --------------------------------------------------------------------------

    _padded_chunks: ClassVar[bool] = False
    """Whether blanks may follow a chunk size."""

    @abstractmethod
    def _new_parser(self, sink: Sink) -> HeadParser:
        """Return llhttp for a message of this role."""

    @abstractmethod
    def _head_stop(self, data: bytes, pos: int) -> int:
        """Return the index after the first empty line at or after `pos` that follows a line, or -1."""

    @abstractmethod
    def _refusal(self, error: HttpParserError, first: bytes) -> MessageError:
        """Say what llhttp's error means for a head whose first byte is `first`.

        Not the whole head: how much of it has come depends on how the bytes were cut.
        """

    @abstractmethod
    def _unfinished(self, head: bytes) -> MessageError:
        """Say what it means that llhttp wants more behind the empty line: its reading and ours differ."""

    @abstractmethod
    def _begin(self, raw: bytes, fields: Headers) -> None:
        """Judge a complete head, report it and set the state for what follows."""

    @abstractmethod
    def _finish(self, trailers: Headers) -> None:
        """Report the end of the message and set the state for what follows."""

    @abstractmethod
    def _take_other(self, data: bytes, pos: int) -> int:
        """Take bytes in a state that only this role has."""

    def _translate(self, error: MessageError) -> MessageError:
        """Return the error as this role reports it."""
        return error

    # -- what callers use --------------------------------------------------------------------------

    @property
    def head_started(self) -> bool:
        """Whether bytes of a head have been fed and its end has not; blank lines before it do not count."""
        return self._state is State.HEAD and bool(self._seen.strip(b"\r\n"))

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and its end has not been fed."""
        return self._state in _IN_BODY or self.head_started

    @property
    def finished(self) -> bool:
        """Whether no message can follow: after Failed, a message that closes, or an upgrade."""
        return self._state is State.CLOSED or self._state is State.RAW

    def feed(self, data: bytes) -> list[HeadT | Body | End | Upgraded | Failed]:
        """Take bytes from the peer and return what they complete, oldest first.

        Never raises for what the peer sent: a broken message is a Failed at the end of the list, behind
        whatever came before it, and later bytes are ignored.
        """
        events = self._events = []
        try:
            self._take(data, 0)
        except MessageError as error:
            self._fail(error)
        return events

    # -- the machinery -----------------------------------------------------------------------------

    def _fail(self, error: MessageError) -> None:
        self._state = State.CLOSED
        self._seen = bytearray()
        self._llhttp = self._sink = self._chunks = None
        error = self._translate(error)
        # The traceback would keep the frames, and with them the events, alive in a cycle.
        error.__traceback__ = error.__context__ = None
        self._events.append(Failed(error))

    def _take(self, data: bytes, pos: int) -> None:
        end = len(data)
        while pos < end:
            state = self._state
            if state is _HEAD:
                pos = self._take_head(data, pos)
            elif state is _LENGTH:
                stop = pos + self._left
                if stop > end:
                    self._left = stop - end
                    self._events.append(Body(data[pos:]))
                    return
                self._events.append(Body(data[pos:stop]))
                self._finish([])
                pos = stop
            elif state is _CHUNKED:
                pos = self._take_chunks(data, pos)
            elif state is _CLOSED:
                return
            else:
                pos = self._take_other(data, pos)

    def _take_head(self, data: bytes, pos: int) -> int:
        seen = self._seen
        room = self._max_head - self._size
        if seen:
            # The end may lie across the feeds: look at the last bytes of the earlier ones again.
            overlap = bytes(seen[-3:])
            stop = self._head_stop(overlap + data[pos : pos + room], 0)
            if stop >= 0:
                stop += pos - len(overlap)
        else:
            stop = self._head_stop(data, pos)
        piece = data[pos:stop] if stop >= 0 else data[pos:]
        oversize = len(piece) > room
        if oversize:
            piece = piece[:room]
        sink = self._judge(piece)
        if oversize:
            raise MessageError(431, "head-too-large", f"The head is larger than {self._max_head} bytes.")
        self._size += len(piece)
        if stop < 0:
            seen += piece
            return len(data)
        if seen:
            seen += piece
            piece = bytes(seen)
            self._seen = bytearray()
        if not sink.complete:
            if piece.strip(b"\r\n"):
                raise self._unfinished(piece)
            return stop
        self._size = 0
        self._llhttp = self._sink = None
        self._begin(piece, sink.fields)
        return stop

    def _judge(self, piece: bytes) -> Sink:
        """Let llhttp read the next bytes of the head. Raises MessageError for what it refuses."""
        sink = self._sink
        llhttp = self._llhttp
        if llhttp is None or sink is None:
            sink = self._sink = Sink()
            llhttp = self._llhttp = self._new_parser(sink)
        try:
            llhttp.feed_data(piece)
        except HttpParserUpgrade:
            pass  # the piece ends where the head does: nothing of the other protocol is in it
        except HttpParserCallbackError as error:
            # Not the peer's doing, the callbacks cannot refuse: an interrupt, or no memory left.
            raise error.__context__ or error from None
        except HttpParserError as error:
            head = (self._seen + piece).lstrip(b"\r\n")
            raise self._refusal(error, bytes(head[:1])) from None
        return sink

    def _expect_body(self, *, chunked: bool, length: int | None) -> None:
        """Set the state for a body delimited by itself; without one the message ends here."""
        if chunked:
            self._chunks = ChunkDecoder(
                max_body=self._max_body, max_trailers=self._max_head, padded=self._padded_chunks
            )
            self._state = _CHUNKED
        elif length:
            self._left = length
            self._state = _LENGTH
        else:
            self._finish([])

    def _take_chunks(self, data: bytes, pos: int) -> int:
        chunks = self._chunks
        assert chunks is not None
        pos = chunks.feed(data, pos, self._events.append)
        if chunks.trailers is not None:
            self._chunks = None
            self._finish(chunks.trailers)
        return pos


_HEAD, _LENGTH, _CHUNKED, _CLOSED = State.HEAD, State.LENGTH, State.CHUNKED, State.CLOSED
_IN_BODY: Final = frozenset({State.LENGTH, State.CHUNKED, State.UNTIL_CLOSE})
