"""Spans as OTLP has them: the one module that knows OpenTelemetry, of which it uses the encoder alone.

Imported by `tracing` where traces are configured. OpenTelemetry's own exporter would run a thread and block
in it; this encodes in whatever thread it is called, and posts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from whook.telemetry.tracing import Span

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def encode(spans: Sequence[Span], *, service: str, version: str) -> bytes:
    """Return the body of a request to /v1/traces.

    The resource has `service` and whatever OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say.
    """
    ours = Resource({"service.name": service, "service.version": version})
    resource = ours.merge(OTELResourceDetector().detect())
    scope = InstrumentationScope("whook", version)
    message = encode_spans([_readable(span, resource, scope) for span in spans])
    return bytes(message.SerializeToString())


def _readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    trace_id = span.trace.trace_id
    parent = SpanContext(trace_id, span.parent, is_remote=True, trace_flags=_SAMPLED) if span.parent else None
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, span.id, is_remote=False, trace_flags=_SAMPLED),
        parent=parent,
        resource=resource,
        attributes=span.attributes,
        kind=SpanKind[span.kind.upper()],
        instrumentation_scope=scope,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
        start_time=span.start,
        end_time=span.end,
    )
