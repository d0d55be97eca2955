"""What there is to show: one record for each request and each change of the tunnel, and its JSON line.

Owns the documented keys of `--json`. Made by `forward` and `session`, printed by `display`. A record is
plain data; building one must stay cheap, because one is built for every request.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from whook_cli.text import printable

Headers = list[tuple[bytes, bytes]]

CAPTURE = 65_536
"""Bytes of a body kept for `--verbose`."""


class Capture:
    """The beginning of a body, and how long all of it was."""

    __slots__ = ("data", "total")

    def __init__(self) -> None:
        self.data = bytearray()
        self.total = 0

    def add(self, chunk: bytes) -> None:
        """Count `chunk`, and keep what still fits."""
        self.total += len(chunk)
        if (room := CAPTURE - len(self.data)) > 0:
            self.data += chunk[:room]


@dataclass(slots=True)
class Details:
    """What `--verbose` adds to a request."""

    request_headers: Headers
    request_body: Capture
    response_reason: bytes
    response_headers: Headers
    response_body: Capture


@dataclass(slots=True)
class RequestRecord:
    """One request that has ended, or (`still_open`) whose response has begun and may take long.

    `at` is Unix time of its arrival, `seconds` how long it took; `status` is 0 when there was no answer,
    and `error` then says why. `watched` is a request that another client answers. `origin` is `live` while
    its sender waits, else `buffered` or `replay`; `remaining` then says how many more wait. `tunnel` is the
    tunnel's id, as relay and conductor log it.
    """

    at: float
    event_id: str
    attempt: int
    client: str
    method: bytes
    target: bytes
    status: int
    seconds: float
    request_bytes: int
    response_bytes: int
    error: str = ""
    watched: bool = False
    still_open: bool = False
    details: Details | None = None
    origin: str = "live"
    remaining: int = 0
    tunnel: str = ""

    @property
    def weight(self) -> int:
        """About how many bytes of memory the record holds on to while it waits to be printed."""
        if self.details is None:
            return 256
        return 1024 + len(self.details.request_body.data) + len(self.details.response_body.data)


@dataclass(slots=True)
class StatusRecord:
    """A change of the tunnel: `event` is a stable name, `text` the line for people."""

    at: float
    event: str
    text: str
    values: dict[str, object]
    serious: bool = False
    weight: int = 512


Record = RequestRecord | StatusRecord


def json_line(record: Record) -> str:
    """Give the `--json` line of a record, ASCII only, without its line break.

    Every line has `event` and `time`. A request has `event_id`, `tunnel`, `attempt`, `client`, `method`,
    `target`, `status` (null without an answer), `duration_ms`, `request_bytes`, `response_bytes`, `error`
    (null if none), `watched`, `origin` (live, buffered, replay), `remaining`; with `--verbose` also
    `request_headers`, `response_headers` (lists of pairs) and `request_body`, `response_body` (text, or null
    if not UTF-8), each with `..._truncated`.
    """
    time = datetime.fromtimestamp(record.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(record, StatusRecord):
        return json.dumps({"event": record.event, "time": time, **record.values})
    line: dict[str, object] = {
        "event": "open" if record.still_open else "request",
        "time": time,
        "event_id": record.event_id,
        "tunnel": record.tunnel,
        "attempt": record.attempt,
        "client": record.client,
        "method": _text(record.method),
        "target": _text(record.target),
        "status": record.status or None,
        "duration_ms": round(record.seconds * 1000, 3),
        "request_bytes": record.request_bytes,
        "response_bytes": record.response_bytes,
        "error": record.error or None,
        "watched": record.watched,
        "origin": record.origin,
        "remaining": record.remaining,
    }
    if (details := record.details) is not None:
        line["request_headers"] = [(_text(n), _text(v)) for n, v in details.request_headers]
        line["response_headers"] = [(_text(n), _text(v)) for n, v in details.response_headers]
        for name, body in (("request_body", details.request_body), ("response_body", details.response_body)):
            line[name] = _body(body)
            line[f"{name}_truncated"] = body.total > len(body.data)
    return json.dumps(line)


def _text(raw: bytes) -> str:
    """Exact for anything sane, and never an error: the JSON encoder escapes what is not printable."""
    return raw.decode("utf-8", "backslashreplace")


def _body(body: Capture) -> str | None:
    return decode_text(body)


def decode_text(body: Capture) -> str | None:
    """Text of a captured body, or None if it is not UTF-8; a character cut off at the end is left out."""
    data = bytes(body.data)
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if body.total > len(data) and error.end == len(data) and len(data) - error.start < 4:
            return data[: error.start].decode("utf-8")
        return None


def request_line(record: RequestRecord) -> tuple[str, str]:
    """Give method and target, safe to print."""
    return printable(record.method), printable(record.target)
