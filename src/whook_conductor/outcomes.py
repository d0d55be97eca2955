"""What became of every request: where the data plane reports it, and the batches it is handed on in.

The ingress calls `OutcomeRecorder.record` once for each request, synchronously; `OutcomeRecorder.run`, one
task of the service, hands whole batches to the consumers: the metrics, and whatever is to keep a history.
Recording must never wait, never fail a request and never grow without bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec
import trio

from whook.backplane.ports import EncodedRecord, Origin, StoredEvent, StoredResponse

MAX_PENDING: Final = 8_192
"""Outcomes kept between two batches: over a second of the fastest ingress. Beyond it new ones are counted as
dropped, because a history may have gaps under overload but a request may not wait for it."""
BATCH_INTERVAL: Final = 0.25
"""Seconds between two batches, so that a busy conductor aggregates hundreds of outcomes at a time."""

Result = Literal["answered", "upgraded", "buffered", "refused", "aborted"]
RESULTS: Final[tuple[Result, ...]] = ("answered", "upgraded", "buffered", "refused", "aborted")


class Outcome(msgspec.Struct, gc=False):
    """One request from its first byte to its last; filled in while it runs, given up once it is recorded.

    `result` is "answered" (the far end's response was delivered whole), "upgraded" (a 101, then raw bytes),
    "buffered" (stored and acknowledged; `slug` says why it was not delivered), "refused" (the conductor
    answered itself; `slug` says with which problem) or "aborted" (broken off by the sender, or in the middle
    of a response; `slug` says by what). `status` is what the sender saw, 0 for
    nothing. `received_at` is in seconds since the epoch, `began` is Trio's time. `to_head` and `duration`
    are seconds from there to the final response's head (-1 when there was none) and to the end. `received`
    and `sent` are bytes of body.
    """

    event_id: str
    method: bytes
    target: bytes
    client: str
    received_at: float
    began: float
    project: str = ""
    project_id: str = ""
    attempt: int = 1
    """0 for one that was stored before anybody at the far end had seen it."""
    result: Result = "aborted"
    slug: str = ""
    status: int = 0
    to_head: float = -1.0
    duration: float = 0.0
    received: int = 0
    sent: int = 0
    origin: Origin = "live"
    event: StoredEvent | None = None
    """Kept where there is a history, and its body only where it is not too large."""
    response: StoredResponse | None = None
    news: EncodedRecord | None = None
    """In the place of both, for a live request that nothing more is to come of."""
    began_at: float = 0.0
    """When a delivery out of the queue began, in seconds since the epoch; 0 for a live one, which begins when
    it is received."""
    tunnel: str = ""
    """Through which it went, or was tried last."""
    traceparent: bytes = b""
    """The sender's, where traces are on."""
    opened: float = 0.0
    """When its exchange was opened, in Trio's time, where traces are on; 0 for one that was not."""
    captured: int = 0
    """Bytes of bodies that are held for the history: see `capture`."""


Consumer = Callable[[Sequence[Outcome]], None]
"""Takes one batch. Must be quick, must not raise; it runs in the recorder's task."""


class OutcomeRecorder:
    """A bounded hand-over from the requests to whoever counts or stores them."""

    def __init__(
        self,
        consumers: Sequence[Consumer] = (),
        *,
        max_pending: int = MAX_PENDING,
        dropping: Callable[[Outcome], None] | None = None,
    ) -> None:
        """`consumers` each get every batch, in order; `dropping` each outcome that no consumer gets."""
        self._dropping = dropping
        self._consumers = tuple(consumers)
        self._max_pending = max_pending
        self._pending: list[Outcome] = []
        self._wake = trio.Event()
        self.dropped = 0

    def record(self, outcome: Outcome) -> None:
        """Take one outcome; beyond the bound it is counted in `dropped` instead."""
        pending = self._pending
        if len(pending) >= self._max_pending:
            self.dropped += 1
            if self._dropping is not None:
                self._dropping(outcome)
            return
        if not pending:
            self._wake.set()
        pending.append(outcome)

    def flush(self) -> int:
        """Hand what is pending to the consumers now and return how many outcomes that were."""
        batch, self._pending = self._pending, []
        if batch:
            for consumer in self._consumers:
                consumer(batch)
        return len(batch)

    async def run(self) -> None:
        """Hand on batches until cancelled; what is pending then is handed on by a last `flush`."""
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                self.flush()
                await trio.sleep(BATCH_INTERVAL)
        finally:
            self.flush()
