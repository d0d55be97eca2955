"""The body of a request on its way to the far end: how much of it came, and what must be kept of it.

Used by one conversation. Does no I/O: the sender reads, the exchange sends. A body is held whole only if it
is small, or may have to be stored and there is room for it (see `Upload`).
"""

from __future__ import annotations

from whook.http1 import Body, End, Failed, Headers, MessageError
from whook.wire import INITIAL_CREDIT
from whook_conductor.answers import bad_message
from whook_conductor.capture import Capture
from whook_conductor.resolver import Refusal
from whook_conductor.sender import Sender


class Budget:
    """Bytes that all users of one kind may hold together. Taking never waits."""

    __slots__ = ("free", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total

    def take(self, size: int) -> bool:
        """Take `size` bytes out of it, if there are so many."""
        if size > self.free:
            return False
        self.free -= size
        return True

    def held(self) -> int:
        """Return how many bytes are held."""
        return self.total - self.free

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.free += size


class Upload:
    """The request's body on its way to the far end.

    What has been received is kept until the response begins, as long as it is no more than a relay takes
    before it first grants credit: a relay that does not have the tunnel grants nothing, so the request can
    then always be sent again to the one that has. After `keep_more` it is kept beyond that, so that it can
    be stored, up to a limit of its own and out of a budget that all connections share.
    """

    __slots__ = (
        "_budget",
        "_capture",
        "_charged",
        "_kept",
        "_limit",
        "_size",
        "complete",
        "received",
        "trailers",
    )

    def __init__(self, capture: Capture | None = None) -> None:
        self._capture = capture
        self._kept: list[bytes] | None = []
        self._size = 0
        self._limit = INITIAL_CREDIT
        self._budget: Budget | None = None
        self._charged = 0
        self.received = 0
        self.trailers: Headers = []
        self.complete = False
        """The end of the request has been received."""

    @property
    def kept(self) -> bytes | None:
        """All that was received so far, or None when it was too much to be sent again."""
        return None if self._kept is None or self._size > INITIAL_CREDIT else b"".join(self._kept)

    @property
    def whole(self) -> bool:
        """The end was received, and nothing but the body came before it."""
        return self.complete and not self.trailers

    @property
    def storable(self) -> bool:
        """Nothing of what was received has been given up."""
        return self._kept is not None

    def all(self) -> bytes:
        """Return all that was received; only while it is `storable`."""
        assert self._kept is not None
        return b"".join(self._kept)

    def keep_more(self, limit: int, budget: Budget) -> None:
        """Keep up to `limit` bytes; those beyond what is kept anyway are taken from `budget`."""
        self._limit = max(limit, INITIAL_CREDIT)
        self._budget = budget

    def keep_no_longer(self) -> None:
        """Give up what was kept: the request will be neither sent again nor stored."""
        self._kept = None
        if self._charged and self._budget is not None:
            self._budget.give(self._charged)
            self._charged = 0

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
                if self._size <= INITIAL_CREDIT or self._afford():
                    self._kept.append(data)
                else:
                    self.keep_no_longer()
        return data

    def _afford(self) -> bool:
        """Take from the budget what goes beyond the part that is kept anyway."""
        due = self._size - INITIAL_CREDIT - self._charged
        if self._size > self._limit or self._budget is None or not self._budget.take(due):
            return False
        self._charged += due
        return True


def refusal_of(error: MessageError) -> Refusal:
    """Return the refusal of a message that the parser would not accept."""
    return Refusal(bad_message(error.status, error.type, error.detail))
