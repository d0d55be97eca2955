"""A collector on loopback, for what daemons tell about themselves: it keeps every document that is posted.

A thread of its own, so that tests with and without Trio use it. It is the far end of Sentry's protocol
and of OTLP over HTTP; what it got is decoded by the helpers here.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.support.deadlines import DEADLINE, Changing

DSN_KEY = "0123456789abcdef0123456789abcdef"


@dataclass
class Posted:
    """One document."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Collected:
    """What has come so far, and what is answered."""

    port: int = 0
    posted: list[Posted] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """Of the next answers; 200 once it is empty."""
    changing: Changing = field(default_factory=Changing)

    @property
    def dsn(self) -> str:
        """A DSN that leads here."""
        return f"http://{DSN_KEY}@127.0.0.1:{self.port}/7"

    @property
    def otlp(self) -> str:
        """An OTLP endpoint that leads here."""
        return f"http://127.0.0.1:{self.port}"

    def errors(self) -> list[dict[str, Any]]:
        """The error events in the envelopes."""
        return [event for posted in self.posted if "envelope" in posted.path for event in events_in(posted)]

    def spans(self) -> list[dict[str, Any]]:
        """The spans, each with its service."""
        found = [span for posted in self.posted if posted.path == "/v1/traces" for span in spans_in(posted)]
        return sorted(found, key=lambda span: span["start"])

    def wait(self, look: Any, what: str) -> Any:
        """Wait until `look()` gives something true; give that."""
        return self.changing.wait_for(look, what, DEADLINE)


def events_in(posted: Posted) -> Iterator[dict[str, Any]]:
    """Decode an envelope (develop.sentry.dev, "Envelopes"): a header, then items with their own headers."""
    body = gzip.decompress(posted.body) if posted.headers.get("content-encoding") == "gzip" else posted.body
    lines = body.split(b"\n")
    for at in range(1, len(lines) - 1, 2):
        if lines[at] and json.loads(lines[at])["type"] == "event":
            yield json.loads(lines[at + 1])


def spans_in(posted: Posted) -> Iterator[dict[str, Any]]:
    """Decode the protobuf of an export request."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for resource in ExportTraceServiceRequest.FromString(posted.body).resource_spans:
        about = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "service": about["service.name"],
                    "resource": about,
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": span.kind,
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "status": span.status.code,
                    "message": span.status.message,
                    "attributes": {
                        pair.key: getattr(pair.value, pair.value.WhichOneof("value"))
                        for pair in span.attributes
                    },
                }


@contextmanager
def running_collector_server() -> Iterator[Collected]:
    """Run it until the block ends."""
    collected = Collected()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with collected.changing:
                status = collected.statuses.pop(0) if collected.statuses else 200
                headers = {name.lower(): value for name, value in self.headers.items()}
                collected.posted.append(Posted(self.path.rstrip("/"), headers, body))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collected.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield collected
        finally:
            server.shutdown()
            thread.join(DEADLINE)
