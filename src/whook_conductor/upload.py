"""The body of a request on its way to the far end: how much of it came, and what must be kept of it.

Used by one conversation. Does no I/O: the sender reads, the exchange sends. A body is never held whole
unless it is small (see `Upload`).
"""

from __future__ import annotations

from whook.http1 import Body, End, Failed, Headers, MessageError
from whook.wire import INITIAL_CREDIT
from whook_conductor.answers import bad_message
from whook_conductor.capture import Capture
from whook_conductor.resolver import Refusal
from whook_conductor.sender import Sender


class Upload:
    """The request's body on its way to the far end.

    What has been sent is kept until the response begins, as long as it is no more than a relay takes before
    it first grants credit: a relay that does not have the tunnel grants nothing, so the request can then
    always be sent again to the one that has.
    """

    __slots__ = ("_capture", "_kept", "_size", "complete", "received", "trailers")

    def __init__(self, capture: Capture | None = None) -> None:
        self._capture = capture
        self._kept: list[bytes] | None = []
        self._size = 0
        self.received = 0
        self.trailers: Headers = []
        self.complete = False
        """The end of the request has been received."""

    @property
    def kept(self) -> bytes | None:
        """All that was received so far, or None when it was too much."""
        return None if self._kept is None else b"".join(self._kept)

    @property
    def whole(self) -> bool:
        """The end was received, and nothing but the body came before it."""
        return self.complete and not self.trailers

    def keep_no_longer(self) -> None:
        """Give up what was kept: the request will not be sent again."""
        self._kept = None

    def take(self, sender: Sender) -> bytes:
        """Take what is parsed of the body, up to its end. Raises `Refusal` for what is no body."""
        events = sender.events
        pieces: list[bytes] = []
        while events and not self.complete:
            event = events[0]
            if isinstance(event, Body):
                pieces.append(event.data)
            elif isinstance(event, End):
                self.complete = True
                self.trailers = event.trailers
            elif isinstance(event, Failed):
                raise refusal_of(event.error)
            else:
                break
            events.popleft()
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if data:
            size = len(data)
            self.received += size
            if self._capture is not None:
                self._capture.request_data(data, self.received)
            if self._kept is not None:
                self._size += size
                if self._size <= INITIAL_CREDIT:
                    self._kept.append(data)
                else:
                    self._kept = None
        return data


def refusal_of(error: MessageError) -> Refusal:
    """Return the refusal of a message that the parser would not accept."""
    return Refusal(bad_message(error.status, error.type, error.detail))
