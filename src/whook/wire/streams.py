"""What an endpoint keeps of a stream, and the events that tell what a peer did to it.

Made and changed by `whook.wire.endpoint` alone; whoever drives a link reads them.
"""

from enum import Enum
from typing import Any

from whook.wire.frames import INITIAL_CREDIT
from whook.wire.messages import GoAway, Headers, Hello, Request, Response


class Phase(Enum):
    """Where one direction of a stream stands."""

    HEAD = "head"  #: a head is to come (a response direction; a request's head is its OPEN)
    BODY = "body"  #: data, or the end
    DONE = "done"


class Stream:
    """One stream as its endpoint sees it. `owner` belongs to the caller."""

    __slots__ = ("consumed", "credit", "id", "informational", "local", "owner", "remote", "watch", "window")

    def __init__(self, stream_id: int, local: Phase, remote: Phase, *, watch: bool = False) -> None:
        self.id = stream_id
        self.local = local
        self.remote = remote
        self.watch = watch
        self.credit = INITIAL_CREDIT  #: bytes this side may still send
        self.window = INITIAL_CREDIT  #: bytes the peer may still send
        self.consumed = 0  #: bytes taken by the caller and not yet granted back
        self.informational = 0  #: bytes of the informational heads that the peer has sent
        self.owner: Any = None


class Opened:
    """A request came in. `ended`: no body follows."""

    __slots__ = ("ended", "request", "stream")

    def __init__(self, stream: Stream, request: Request, ended: bool) -> None:
        self.stream, self.request, self.ended = stream, request, ended


class HeadReceived:
    """A response head, informational (1xx) or final."""

    __slots__ = ("ended", "response", "stream")

    def __init__(self, stream: Stream, response: Response, ended: bool) -> None:
        self.stream, self.response, self.ended = stream, response, ended


class DataReceived:
    """A piece of a body."""

    __slots__ = ("data", "ended", "stream")

    def __init__(self, stream: Stream, data: bytes, ended: bool) -> None:
        self.stream, self.data, self.ended = stream, data, ended


class Ended:
    """The peer's direction ended, with trailers."""

    __slots__ = ("stream", "trailers")
    ended = True

    def __init__(self, stream: Stream, trailers: Headers) -> None:
        self.stream, self.trailers = stream, trailers


class WasReset:
    """The peer gave the stream up; it is forgotten."""

    __slots__ = ("code", "message", "stream")

    def __init__(self, stream: Stream, code: int, message: str) -> None:
        self.stream, self.code, self.message = stream, code, message


class CreditReceived:
    """More may be sent on the stream."""

    __slots__ = ("stream",)

    def __init__(self, stream: Stream) -> None:
        self.stream = stream


class HelloReceived:
    """The peer introduced itself."""

    __slots__ = ("hello",)

    def __init__(self, hello: Hello) -> None:
        self.hello = hello


class GoAwayReceived:
    """The peer takes no new streams."""

    __slots__ = ("goaway",)

    def __init__(self, goaway: GoAway) -> None:
        self.goaway = goaway


Event = (
    Opened | HeadReceived | DataReceived | Ended | WasReset | CreditReceived | HelloReceived | GoAwayReceived
)
