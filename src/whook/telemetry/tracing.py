"""Spans, from where they are finished to the collector: gathered, encoded in batches, and posted.

Each hop that handles a webhook calls `Tracer.add` when it is done with it, synchronously. One task takes what
has gathered, has it encoded in a thread, and puts it into an outbox. Where OpenTelemetry is not configured
there is no tracer, and a hop has one attribute to look at. Must never wait, nor grow without bound.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Final, Literal
from urllib.parse import unquote

import trio

from whook.telemetry.outbox import Posting, open_outbox
from whook.telemetry.traceparent import HOPS, Hop, Trace, span_id, trace_of

MAX_PENDING: Final = 4_096
"""Spans kept between two batches. Beyond it they are dropped: a trace may have gaps, but nobody waits."""
BATCH_SECONDS: Final = 1.0
"""Between two batches, unless OTEL_BSP_SCHEDULE_DELAY (in milliseconds) says otherwise."""
BATCH_SPANS: Final = 512
"""Spans in one document."""
MAX_DOCUMENTS: Final = 16
"""Documents that wait for the collector."""
FLUSH_SECONDS: Final = 2.0
"""For what is left when the process ends."""

_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.common.trace_encoder")

Kind = Literal["server", "client", "producer", "consumer", "internal"]


class TracingUnavailable(Exception):
    """Tracing is configured, but cannot be: the text says why."""


class NotInstalled(TracingUnavailable):
    """OpenTelemetry is not there."""


@dataclass(frozen=True, slots=True)
class Span:
    """One finished piece of work. Times are nanoseconds since the epoch; `error` is empty if it went well."""

    trace: Trace
    id: int
    parent: int
    name: str
    kind: Kind
    start: int
    end: int
    attributes: dict[str, str | float | bool] = field(default_factory=dict[str, str | float | bool])
    error: str = ""


@dataclass(frozen=True, slots=True)
class TraceTarget:
    """Where traces go, as the variables of OpenTelemetry say."""

    url: str
    headers: Mapping[str, str]
    share: float
    """Of the events whose senders say nothing about it."""
    every: float = BATCH_SECONDS
    """Seconds between two batches."""


def trace_target(environ: Mapping[str, str] | None = None) -> TraceTarget | None:
    """Read the environment (OpenTelemetry specification, "OTLP Exporter" and "Environment Variables").

    None if no endpoint is set, OTEL_SDK_DISABLED or OTEL_TRACES_EXPORTER says no. Raises TracingUnavailable
    for what cannot be used, and where OpenTelemetry is not installed.
    """
    env = os.environ if environ is None else environ
    if (
        env.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or env.get("OTEL_TRACES_EXPORTER", "otlp") == "none"
    ):
        return None
    url = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    if not url and (base := env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")):
        url = base.rstrip("/") + "/v1/traces"
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        raise TracingUnavailable(f"the endpoint {url} is none of OTLP over HTTP: http://… or https://…")
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    if protocol not in ("", "http/protobuf"):
        raise TracingUnavailable(f"OTLP by {protocol} is not spoken here, only http/protobuf")
    if not _installed():
        raise NotInstalled("a traces endpoint is set, but OpenTelemetry is not installed: whook[otel]")
    headers: dict[str, str] = {}
    given = env.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or env.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    for pair in filter(None, given.split(",")):
        name, _, value = pair.partition("=")
        headers[name.strip().lower()] = unquote(value.strip())
    return TraceTarget(url, headers, _share(env), _number(env, "OTEL_BSP_SCHEDULE_DELAY", 1_000.0) / 1_000)


def _installed() -> bool:
    """Whether OpenTelemetry is there."""
    try:
        return all(find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:
        return False


def _share(env: Mapping[str, str]) -> float:
    sampler = env.get("OTEL_TRACES_SAMPLER", "parentbased_always_on").removeprefix("parentbased_")
    if sampler != "traceidratio":
        return 0.0 if sampler == "always_off" else 1.0
    return min(1.0, _number(env, "OTEL_TRACES_SAMPLER_ARG", 1.0))


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    try:
        found = float(env.get(name) or default)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e9:
        raise TracingUnavailable(f"{name} is not a number that makes sense: {env[name]}")
    return found


class Tracer:
    """Takes the spans of one service."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._pending: list[Span] = []
        self._wake = trio.Event()
        self.dropped = 0

    def trace(self, event_id: str, traceparent: bytes) -> Trace | None:
        """Return the trace that an event belongs to, None if it is not recorded."""
        return trace_of(event_id, traceparent, self._share)

    def hop(
        self,
        hop: Hop,
        trace: Trace,
        event_id: str,
        attempt: int,
        start: int,
        end: int,
        *,
        name: str,
        kind: Kind,
        error: str = "",
        **attributes: str | float | bool,
    ) -> None:
        """Add the span of one hop; its parent is that of the hop before it."""
        before = HOPS.index(hop) - 1
        parent = trace.parent_id if before < 0 else span_id(event_id, attempt, HOPS[before])
        said = {"whook.event_id": event_id, "whook.attempt": attempt, **attributes}
        self.add(
            Span(
                trace,
                span_id(event_id, attempt, hop),
                parent,
                name,
                kind,
                start,
                max(start, end),
                said,
                error,
            )
        )

    def add(self, span: Span) -> None:
        """Take one span; beyond the bound it is counted in `dropped` instead."""
        if len(self._pending) >= MAX_PENDING:
            self.dropped += 1
            return
        self._pending.append(span)
        self._wake.set()

    def take(self) -> list[Span]:
        """Return what has gathered."""
        spans, self._pending = self._pending, []
        return spans

    async def gathered(self) -> None:
        """Wait until there is something."""
        await self._wake.wait()
        self._wake = trio.Event()


@asynccontextmanager
async def open_tracer(
    target: TraceTarget | None, service: str, version: str, *, trouble: Callable[[str], None]
) -> AsyncGenerator[Tracer | None]:
    """Give a tracer that exports as long as the block runs, and what is left for two seconds more.

    None without a target.
    """
    if target is None:
        yield None
        return
    from whook.telemetry.otlp import encode  # takes long, and is not installed everywhere

    encode_batch = partial(encode, service=service, version=version)
    headers = {**target.headers, "content-type": "application/x-protobuf"}
    tracer = Tracer(target.share)
    one_thread = trio.CapacityLimiter(1)
    async with open_outbox(most=MAX_DOCUMENTS, trouble=trouble) as outbox, trio.open_nursery() as nursery:

        async def hand_over() -> None:
            spans = tracer.take()
            for at in range(0, len(spans), BATCH_SPANS):
                body = await trio.to_thread.run_sync(
                    encode_batch, spans[at : at + BATCH_SPANS], limiter=one_thread
                )
                outbox.put(Posting(target.url, headers, body))

        async def gather() -> None:
            while True:
                await tracer.gathered()
                await trio.sleep(target.every)
                await hand_over()

        gathering = trio.CancelScope()

        async def gather_until_told() -> None:
            with gathering:
                await gather()

        nursery.start_soon(outbox.run, name="trace outbox")
        nursery.start_soon(gather_until_told, name="traces")
        try:
            yield tracer
        finally:
            gathering.cancel(reason="the last spans")
            with trio.move_on_after(FLUSH_SECONDS, shield=True):
                await hand_over()
                await outbox.flush()
            nursery.cancel_scope.cancel(reason="all is traced")
