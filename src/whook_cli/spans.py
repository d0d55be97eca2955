"""The client's part of a trace: a span for each exchange, and one for the local server in it.

`commands` opens it where OpenTelemetry's variables name an endpoint; `handler` tells it what it is done with.
Must add nothing to a request: it arrives as it was sent, with the sender's `traceparent` or with none.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from whook.telemetry.traceparent import find_traceparent
from whook.telemetry.tracing import NotInstalled, Tracer, TracingUnavailable, open_tracer, trace_target
from whook.wire import Request
from whook_cli.display import Display
from whook_cli.records import RequestRecord

SERVICE: Final = "whook-cli"
_SERVER_ERROR: Final = 500


class ExchangeSpans:
    """Makes the spans of exchanges."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def add(self, request: Request, record: RequestRecord, *, forwarded: bool) -> None:
        """Add what became of one exchange; `forwarded` says that a local server was asked."""
        event_id, attempt = request.event_id, request.attempt
        trace = self._tracer.trace(event_id, find_traceparent(request.headers))
        if trace is None or record.watched:
            return
        start = int(record.at * 1e9)
        end = start + int(record.seconds * 1e9)
        error = record.error or (f"status {record.status}" if record.status >= _SERVER_ERROR else "")
        self._tracer.hop(
            "client", trace, event_id, attempt, start, end,
            name="exchange", kind="consumer", error=error,
            **{"whook.tunnel": record.tunnel, "whook.origin": record.origin},
        )  # fmt: skip
        if forwarded:
            values: dict[str, str | float | bool] = {"http.request.method": request.method.decode("latin-1")}
            if record.status:
                values["http.response.status_code"] = record.status
            self._tracer.hop(
                "local", trace, event_id, attempt, start, end,
                name="local server", kind="client", error=error, **values,
            )  # fmt: skip


@asynccontextmanager
async def open_spans(version: str, display: Display) -> AsyncGenerator[ExchangeSpans | None]:
    """Give what takes spans, as long as the block runs; None where they are off.

    What keeps them from being on is told and no more: the variables may be there for the local server.
    """
    target = None
    try:
        target = trace_target()
    except NotInstalled:
        pass  # the variables are for somebody else
    except TracingUnavailable as error:
        display.status("warning", f"traces are off: {error}", serious=True)

    def trouble(reason: str) -> None:
        display.status("warning", f"traces cannot be exported: {reason}", serious=True)

    async with open_tracer(target, SERVICE, version, trouble=trouble) as tracer:
        yield None if tracer is None else ExchangeSpans(tracer)
