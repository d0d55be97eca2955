"""One delivery out of the queue: a stored webhook goes to its project's tunnel, and what came back is judged.

Called by a `Deliverer`, which decides about order, retries and the queue; this module touches the queue in no
way. Every delivery is reported as an outcome, like those that a sender waits for.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Literal

import trio

from whook.backplane.ports import Blobs, Delivery, Queued, Record, Route, StoredEvent, StoredResponse
from whook.http1 import Headers, RequestHead
from whook.link import Data, End, Exchange, ExchangeReset, Head, LinkClosed, TooManyExchanges
from whook.wire import DATA_CHUNK, Request, ResetCode, Response
from whook_conductor.answers import TUNNEL_LOST, answer_to_reset
from whook_conductor.buffering import MAX_INLINE
from whook_conductor.forwarding import Forwarding
from whook_conductor.outcomes import Outcome, OutcomeRecorder
from whook_conductor.resolver import Refusal, Resolver
from whook_conductor.routes import RouteTable
from whook_conductor.trunks import Trunks

BODY_TIME: Final = 30.0
"""Seconds for the body of a response whose head has come: the webhook is delivered by then."""
_FIRST_FINAL: Final = 200
_SERVER_ERROR: Final = 500
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_BROKEN_OFF: Final = frozenset(
    {ResetCode.NO_TUNNEL, ResetCode.TUNNEL_LOST, ResetCode.DRAINING, ResetCode.OVERLOADED}
)
"""What says nothing about the webhook: the tunnel is going, or has too much to do."""

Verdict = Literal["answered", "failed", "broken-off", "hopeless"]
"""answered: delivered. failed: to be tried again later, and counted. broken-off: to be tried again, and not
counted. hopeless: no further attempt can help."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a delivery. `retry_after` is in seconds, None where the local server asked for none."""

    verdict: Verdict
    outcome: Outcome
    retry_after: float | None = None


class Courier:
    """Makes deliveries."""

    def __init__(
        self,
        *,
        table: RouteTable,
        resolver: Resolver,
        trunks: Trunks,
        recorder: OutcomeRecorder,
        blobs: Blobs,
        deadline: float,
    ) -> None:
        """`deadline` is how long the head of a response may take, in seconds."""
        self._table = table
        self._resolver = resolver
        self._trunks = trunks
        self._recorder = recorder
        self._blobs = blobs
        self._deadline = deadline

    async def reachable(self, project_id: str, seconds: float) -> bool:
        """Return whether the project's tunnel can be reached, having waited for its trunk if need be."""
        route = self._table.of(project_id)
        if route is not None and not self._trunks.is_up(route.relay_id):
            with trio.move_on_after(seconds):
                await self._trunks.wait_up(route.relay_id)
        return route is not None and self._trunks.is_up(route.relay_id)

    async def deliver(self, entry: Queued, *, remaining: int, may_begin: Callable[[], bool]) -> Result:
        """Deliver one event. `may_begin` is asked at the last moment; `remaining` is for the people there.

        Raises Unavailable when a body that is stored apart cannot be read now.
        """
        event = entry.event
        outcome = Outcome(
            event.id,
            event.method,
            event.target,
            event.peer,
            event.received_at,
            trio.current_time(),
            event.project,
            event.project_id,
            entry.attempt,
            received=event.body_size,
            origin=entry.origin,
            event=event,
        )
        body = event.body
        if body is None:
            body = await self._blobs.get(event.id)
        outcome.began, outcome.began_at = trio.current_time(), time.time()
        if body is None:
            return self._over("hopeless", outcome, "body-missing")
        delivery = _Delivery(outcome)
        over = False
        try:
            result = await self._attempt(delivery, entry, body, remaining, may_begin)
            over = True
        finally:
            outcome.duration = trio.current_time() - outcome.began
            if not over:
                outcome.result, outcome.slug = "aborted", outcome.slug or "stopped"
                self._recorder.record(outcome)
        return self._over(*result)

    async def _attempt(
        self,
        delivery: _Delivery,
        entry: Queued,
        body: bytes,
        remaining: int,
        may_begin: Callable[[], bool],
    ) -> tuple[Verdict, Outcome, str, float | None]:
        outcome, event = delivery.outcome, entry.event
        route = self._table.of(event.project_id)
        if route is None or not may_begin():
            return "broken-off", outcome, "no-tunnel", None
        outcome.tunnel = route.tunnel_id
        trailers = event.trailers
        fits = len(body) <= DATA_CHUNK
        try:
            exchange = self._trunks.open(
                route,
                _request(entry, self._deadline, remaining, outcome),
                body if fits else b"",
                end=fits and not trailers,
            )
        except LinkClosed:
            await self._look_again(route)
            return "broken-off", outcome, "unavailable", None
        except TooManyExchanges:
            return "broken-off", outcome, "overloaded", None
        except ValueError:
            return "hopeless", outcome, "head-too-large", None
        try:
            return await delivery.carry(exchange, b"" if fits else body, trailers, self._deadline)
        except ExchangeReset as reset:
            if reset.code in (ResetCode.NO_TUNNEL, ResetCode.DRAINING):
                await self._look_again(route)
            verdict: Verdict = "broken-off" if reset.code in _BROKEN_OFF else "failed"
            return verdict, outcome, answer_to_reset(reset.code).slug, None
        finally:
            exchange.reset(ResetCode.CANCELLED)

    async def _look_again(self, route: Route) -> None:
        """Find out who holds the project, now that `route` has led nowhere."""
        with contextlib.suppress(Refusal):
            await self._resolver.again(route)

    def _over(
        self, verdict: Verdict, outcome: Outcome, slug: str = "", retry_after: float | None = None
    ) -> Result:
        outcome.slug = slug
        outcome.result = "answered" if outcome.status else "refused"
        if verdict != "broken-off" or slug == TUNNEL_LOST.slug:  # else nobody has seen it
            self._recorder.record(outcome)
        return Result(verdict, outcome, retry_after)


class _Delivery:
    """One delivery while it runs."""

    __slots__ = ("_size", "_taken", "outcome")

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._taken: list[bytes] | None = []
        self._size = 0

    async def carry(
        self, exchange: Exchange, rest: bytes, trailers: Headers, deadline: float
    ) -> tuple[Verdict, Outcome, str, float | None]:
        """Send what is left of the request, receive the response, and judge it. Raises ExchangeReset."""
        outcome = self.outcome
        head: Head | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, exchange, rest, trailers)
            with trio.move_on_after(deadline):
                head = await self._final_head(exchange)
            if head is not None:
                response = head.response
                outcome.status = response.status
                outcome.to_head = trio.current_time() - outcome.began
                with trio.move_on_after(BODY_TIME), contextlib.suppress(ExchangeReset):
                    await self._receive_body(exchange, head)
            nursery.cancel_scope.cancel(reason="the response is over")
        if head is None:
            if exchange.failure is not None:
                raise exchange.failure
            return "failed", outcome, "deadline-exceeded", None
        return self._judge(head.response)

    async def _send(self, exchange: Exchange, rest: bytes, trailers: Headers) -> None:
        with contextlib.suppress(ExchangeReset):  # the receiving side sees it as well
            if rest:
                await exchange.send_data(rest, end=not trailers)
            if trailers:
                exchange.send_end(trailers)

    async def _final_head(self, exchange: Exchange) -> Head | None:
        """Return the head of the final response; None when the exchange is over without one."""
        try:
            while True:
                item = await exchange.receive()
                assert isinstance(item, Head), item
                if item.response.status >= _FIRST_FINAL:
                    return item
                if item.ended:
                    return None
        except ExchangeReset:
            return None

    async def _receive_body(self, exchange: Exchange, head: Head) -> None:
        """Receive the rest; keep it as long as it is not too much to be stored."""
        ended = head.ended
        trailers: Headers = []
        response = head.response
        self.outcome.response = self._stored(response, whole=ended)
        while not ended:
            item = await exchange.receive()
            ended = item.ended
            if isinstance(item, Data):
                self._size += len(item.data)
                self.outcome.sent = self._size
                if self._size > MAX_INLINE:
                    self._taken = None
                if self._taken is not None:
                    self._taken.append(item.data)
            elif isinstance(item, End):
                trailers = item.trailers
        self.outcome.response = self._stored(response, whole=True, trailers=trailers)

    def _stored(self, response: Response, *, whole: bool, trailers: Headers | None = None) -> StoredResponse:
        keep = whole and self._taken is not None
        return StoredResponse(
            status=response.status,
            reason=response.reason,
            headers=response.headers,
            body_size=self._size,
            body=b"".join(self._taken or ()) if keep else None,
            trailers=trailers or [],
        )

    def _judge(self, response: Response) -> tuple[Verdict, Outcome, str, float | None]:
        status = response.status
        if status < _SERVER_ERROR and status not in _TRY_AGAIN:
            return "answered", self.outcome, "", None
        return "failed", self.outcome, "", retry_after(response.headers, time.time())


def dead_record(entry: Queued, outcome: Outcome) -> Record:
    """Return what the history is told of an event whose last delivery ended like this."""
    event, now = entry.event, time.time()
    delivery = Delivery(
        event_id=event.id,
        attempt=entry.attempt,
        origin=entry.origin,
        began_at=outcome.began_at or now,
        to_head=outcome.to_head,
        duration=outcome.duration,
        status=outcome.status,
        problem=outcome.slug,
        response=outcome.response,
    )
    return Record(
        event_id=event.id,
        project_id=event.project_id,
        state="dead",
        at=now,
        event=event,
        delivery=delivery,
    )


def _request(entry: Queued, deadline: float, remaining: int, outcome: Outcome) -> Request:
    """Return the head as it goes to the far end: that of the live delivery, but for the attempt."""
    event = entry.event
    forwarding = Forwarding(event.peer, event.scheme, trusted=event.trusted)
    client, scheme, headers = forwarding.forward(
        _head(event), event.id, upgrade=False, attempt=entry.attempt, replay=entry.origin == "replay"
    )
    outcome.client = client
    return Request(
        event.id,
        entry.attempt,
        int(deadline * 1000),
        scheme,
        client,
        event.method,
        event.target,
        headers,
        entry.origin,
        remaining,
    )


def _head(event: StoredEvent) -> RequestHead:
    host = next((value for name, value in event.headers if name.lower() == b"host"), b"")
    return RequestHead(
        method=event.method,
        target=event.target,
        headers=event.headers,
        version=event.version,
        keep_alive=True,
        upgrade=False,
        chunked=False,
        content_length=event.body_size,
        expect_continue=False,
        host=host,
    )


def retry_after(headers: Headers, now: float) -> float | None:
    """Return the seconds that a Retry-After field asks for (RFC 9110 section 10.2.3), None without one."""
    value = next((value for name, value in headers if name.lower() == b"retry-after"), b"").strip()
    if value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value.decode("latin-1")).timestamp() - now)
    except (ValueError, OverflowError):
        return None
