"""What the history is to know of a request: references to its bytes while it runs, a record at its end.

A dialogue has a `Capture` where there is a history, and none where there is not. It starts nothing; it holds
bytes that were received anyway, and makes one piece of bytes of them at the end, since hundreds of requests
kept as objects until they are stored cost more than that copy. How much all of them may hold is in
`CaptureLimits`: beyond it bodies are left out of the history, while the webhook itself goes its way.
"""

from __future__ import annotations

from typing import Final

from whook.backplane.ports import Headers, StoredEvent, StoredResponse, encode_record
from whook.http1 import RequestHead
from whook.wire import Response
from whook_conductor.news import record_of
from whook_conductor.outcomes import Outcome

MAX_RESPONSE: Final = 262_144
"""Bytes of the longest response body that is kept."""
MAX_ENCODED: Final = 65_536
"""Bytes of bodies up to which they are copied into a record at once; longer ones are only referred to."""
MAX_HELD: Final = 67_108_864
"""Bytes of bodies that may be held for the history, from their receipt until they are stored."""


class CaptureLimits:
    """What all captures of a conductor share."""

    __slots__ = ("free", "max_body", "max_held", "scheme", "uncaptured")

    def __init__(self, *, max_body: int, scheme: str, max_held: int = MAX_HELD) -> None:
        """`max_body` is the longest request body that is kept; `scheme` is how senders reach the ingress."""
        self.max_body = max_body
        self.scheme = scheme
        self.max_held = max_held
        self.free = max_held
        self.uncaptured = 0
        """Bodies that were left out because too much was held."""

    def release(self, outcome: Outcome) -> None:
        """Take note that what was captured for an outcome is stored, or given up."""
        self.free += outcome.captured
        outcome.captured = 0


class Capture:
    """What is held of one request."""

    __slots__ = ("_answer", "_body", "_held", "_limits", "_response", "_trailers")

    def __init__(self, limits: CaptureLimits) -> None:
        self._limits = limits
        self._held = 0
        self._body: list[bytes] | None = []
        self._response: Response | None = None
        self._answer: list[bytes] | None = []
        self._trailers: Headers = []

    def request_data(self, data: bytes, total: int) -> None:
        """Hold a piece of the request's body; `total` bytes have come with it."""
        body = self._body
        if body is not None:
            if total <= self._limits.max_body and self._hold(len(data)):
                body.append(data)
            else:
                self._body = None

    def response_head(self, response: Response) -> None:
        """Hold the head of the final response."""
        self._response = response

    def response_data(self, data: bytes, total: int) -> None:
        """Hold a piece of the response's body; `total` bytes have come with it."""
        answer = self._answer
        if answer is not None:
            if total <= MAX_RESPONSE and self._hold(len(data)):
                answer.append(data)
            else:
                self._answer = None

    def response_trailers(self, trailers: Headers) -> None:
        """Hold the trailers of the response."""
        self._trailers = trailers

    def _hold(self, size: int) -> bool:
        limits = self._limits
        if size > limits.free:
            limits.uncaptured += 1
            return False
        limits.free -= size
        self._held += size
        return True

    def drop(self) -> None:
        """Hold nothing any more: there is nothing to record."""
        self._limits.free += self._held
        self._held = 0

    def into(
        self,
        outcome: Outcome,
        head: RequestHead,
        *,
        peer: str,
        trusted: bool,
        target: bytes,
        trailers: Headers,
        complete: bool,
    ) -> None:
        """Put the records into `outcome`, once. Only a `complete` request body is kept."""
        outcome.captured, self._held = self._held, 0
        if outcome.event is None:
            pieces = self._body if complete else None
            outcome.event = StoredEvent(
                id=outcome.event_id,
                project_id=outcome.project_id,
                project=outcome.project,
                received_at=outcome.received_at,
                peer=peer,
                trusted=trusted,
                scheme=self._limits.scheme,
                version=head.version,
                method=head.method,
                target=target,
                headers=head.headers,
                body_size=outcome.received,
                body=None if pieces is None else _joined(pieces),
                trailers=trailers,
            )
        response = self._response
        if response is not None:
            kept = self._answer if outcome.result == "answered" else None
            outcome.response = StoredResponse(
                status=response.status,
                reason=response.reason,
                headers=response.headers,
                body_size=outcome.sent,
                body=None if kept is None else _joined(kept),
                trailers=self._trailers,
            )
        if outcome.result != "buffered" and outcome.captured <= MAX_ENCODED:
            record = record_of(outcome)
            if record is not None:
                outcome.news = encode_record(record)
                outcome.event = outcome.response = None


def _joined(pieces: list[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
