"""What becomes of each exchange of a tunnel: forwarded, answered here, or only watched.

Owns the record of each exchange, from its arrival to the line on the terminal. The tunnel's `Answerer` calls
it in a task of its own. It is the wrapper at which errors of one exchange are contained: nothing that goes
wrong with one webhook may end the tunnel.
"""

import dataclasses
import time
import traceback
from typing import Final

import trio

from whook.link import Exchange, ExchangeReset
from whook.wire import ResetCode, Response
from whook_cli.display import Display
from whook_cli.forward import Forwarder, answer
from whook_cli.records import Capture, Details, RequestRecord
from whook_cli.respond import Responder
from whook_cli.spans import ExchangeSpans
from whook_cli.text import printable

_REASONS: Final = {
    ResetCode.CANCELLED: "the sender did not wait for the answer",
    ResetCode.DEADLINE: "the server's deadline for an answer passed",
    ResetCode.TUNNEL_LOST: "the tunnel was lost",
    ResetCode.TOO_LARGE: "the body is larger than the server allows",
}


class Handler:
    """Handles exchanges: `forwarder` gets them, or else `responder` answers them."""

    def __init__(
        self, display: Display, responder: Responder, *, verbose: bool, forwarder: Forwarder | None = None
    ) -> None:
        self.forwarder = forwarder
        self.spans: ExchangeSpans | None = None
        self._display = display
        self._responder = responder
        self._verbose = verbose
        self._stored = 0
        """Webhooks out of the queue that were answered since it was last empty."""

    async def __call__(self, exchange: Exchange) -> None:
        """Handle one exchange and show it. Raises nothing but cancellation."""
        started = time.perf_counter()
        record = self._record(exchange)
        try:
            if exchange.watch:
                await self._take(exchange, record)
            elif self.forwarder is not None:
                await self.forwarder.forward(exchange, record)
            else:
                await self._answer(exchange, record)
        except ExchangeReset:
            pass  # noted below
        except Exception as error:  # noqa: BLE001 the containment wrapper of one exchange
            exchange.reset(ResetCode.INTERNAL, "the client failed")
            record.error = f"whook failed: {error!r}"
            self._display.status("defect", "".join(traceback.format_exception(error)), serious=True)
        except trio.Cancelled:
            if exchange.failure is None:
                record.error = record.error or "stopped before it was answered"
            raise
        finally:
            if not record.error and (failure := exchange.failure) is not None:
                record.error = _reason(failure)
            record.seconds = time.perf_counter() - started
            self._display.show(record)
            self._count_stored(record)
            if self.spans is not None:
                self.spans.add(exchange.request, record, forwarded=self.forwarder is not None)

    def opened(self, record: RequestRecord) -> None:
        """Show a response that has begun and may take long."""
        self._display.show(
            dataclasses.replace(record, still_open=True, details=None, seconds=time.time() - record.at)
        )

    def _record(self, exchange: Exchange) -> RequestRecord:
        request = exchange.request
        details = Details(request.headers, Capture(), b"", [], Capture()) if self._verbose else None
        return RequestRecord(
            time.time(), request.event_id, request.attempt, request.client, request.method, request.target,
            0, 0.0, 0, 0, "", exchange.watch, False, details, printable(request.origin), request.remaining,
            exchange.link_name,
        )  # fmt: skip

    def _count_stored(self, record: RequestRecord) -> None:
        """Count what came out of the queue, and say when all of it has come."""
        if record.origin != "buffered" or record.watched or not record.status:
            return
        self._stored += 1
        if not record.remaining:
            count, self._stored = self._stored, 0
            what = "webhook" if count == 1 else "webhooks"
            self._display.status("caught-up", f"caught up: {count} buffered {what} delivered", count=count)

    async def _answer(self, exchange: Exchange, record: RequestRecord) -> None:
        if not exchange.request_ended and _expects_continue(exchange):
            exchange.send_head(Response(100, b"Continue", []))
        await self._take(exchange, record)
        await answer(exchange, record, self._responder.answer(record.event_id, record.method))

    @staticmethod
    async def _take(exchange: Exchange, record: RequestRecord) -> None:
        """Receive the body, count it, and keep the beginning if it is to be shown."""
        ended = exchange.request_ended
        while not ended:
            item = await exchange.receive()
            ended = item.ended
            data = getattr(item, "data", b"")
            record.request_bytes += len(data)
            if record.details is not None:
                record.details.request_body.add(data)


def _expects_continue(exchange: Exchange) -> bool:
    return any(
        name.lower() == b"expect" and value.lower() == b"100-continue"
        for name, value in exchange.request.headers
    )


def _reason(failure: ExchangeReset) -> str:
    return failure.message or next(
        (text for code, text in _REASONS.items() if code == failure.code), str(failure)
    )
