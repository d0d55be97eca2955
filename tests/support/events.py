"""Events as the API gives them to the client, made of the bytes that a sender would send."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from whook.http1 import Framing, encode_chunk, encode_last_chunk, encode_request_head, request_framing
from whook_cli.events_api import Answered, Content, Delivery, EventDetail, Received
from whook_cli.events_export import Exported

Headers = list[tuple[bytes, bytes]]
EVENT = "evt_01JZ0000000000000000000001"


def content(body: bytes) -> Content:
    """Give a body as the API writes it."""
    try:
        return Content(len(body), "utf-8", body.decode())
    except UnicodeDecodeError:
        return Content(len(body), "base64", base64.b64encode(body).decode())


def pairs(headers: Headers) -> list[tuple[str, str]]:
    """Give fields as the API writes them."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def delivery(**fields: Any) -> Delivery:
    """Give a delivery that was answered."""
    answer = Answered(200, "OK", [("Content-Type", "text/plain")], content(b"fine"), [])
    told: dict[str, Any] = {
        "attempt": 1,
        "origin": "live",
        "began_at": datetime(2026, 11, 23, 20, 0, 0, 500_000, UTC),
        "to_head": 0.012,
        "duration": 0.034,
        "status": 200,
        "problem": None,
        "response": answer,
    }
    return Delivery(**(told | fields))


def exported(
    headers: Headers,
    body: bytes = b"",
    *,
    method: bytes = b"POST",
    target: bytes = b"/hook",
    version: bytes = b"1.1",
    trailers: Headers | None = None,
    history: list[Delivery] | None = None,
) -> Exported:
    """Give an event with its message."""
    raw = encode_request_head(method, target, headers, version)
    if request_framing(headers) is Framing.CHUNKED:
        raw += encode_chunk(body) + encode_last_chunk(trailers or [])
    else:
        raw += body
    event = EventDetail(
        id=EVENT,
        sequence=1,
        project="shop",
        received_at=datetime(2026, 11, 23, 20, 0, 0, tzinfo=UTC),
        method=method.decode(),
        target=target.decode("latin-1"),
        peer="192.0.2.7",
        body_size=len(body),
        state="answered",
        deliveries=1 if history is None else len(history),
        last_status=200,
        last_problem=None,
        last_duration=0.034,
        request=Received(version.decode(), "https", pairs(headers), content(body), pairs(trailers or [])),
        history=[delivery()] if history is None else history,
    )
    return Exported(event, raw)
