"""Answers that are made here and not by a local server.

Owns the default answer of a tunnel without `--forward`, and the problem documents (RFC 9457) that stand in
for a local server that cannot answer. `session` and `forward` send what this module builds. It must never
take a byte of the request into an answer, except its event id.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from whook_cli.exits import UsageError

Headers = list[tuple[bytes, bytes]]

BODY_FORBIDDEN = frozenset({204, 205, 304})
MAX_BODY = 1_048_576
"""Largest `--respond-body` file: it is held in memory and sent with every answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response, ready to be sent through the tunnel."""

    status: int
    reason: bytes
    headers: Headers
    body: bytes


class Responder:
    """Makes the answer for each request of a tunnel that forwards nowhere.

    `body` None answers with JSON that names the event id. Statuses that allow no content (RFC 9110 sections
    15.3.5, 15.3.6 and 15.4.5) are answered without any.
    """

    __slots__ = ("_body", "_content_type", "status")

    def __init__(self, status: int = 200, body: bytes | None = None, content_type: bytes = b"") -> None:
        self.status = status
        self._body = body
        self._content_type = content_type

    def answer(self, event_id: str, method: bytes) -> Answer:
        """Build the answer to one request; HEAD gets the head of what GET would get."""
        reason = phrase(self.status)
        if self.status in BODY_FORBIDDEN:
            return Answer(self.status, reason, [], b"")
        if self._body is None:
            body, content_type = b'{"event_id":"%s"}\n' % event_id.encode("ascii"), b"application/json"
        else:
            body, content_type = self._body, self._content_type
        headers = [(b"Content-Type", content_type), (b"Content-Length", b"%d" % len(body))]
        return Answer(self.status, reason, headers, b"" if method == b"HEAD" else body)


def phrase(status: int) -> bytes:
    """Give the usual reason phrase of a status, empty for one that has none."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""


def make_responder(status: int, body: str | None) -> Responder:
    """Read `--respond` and `--respond-body`. Raises `UsageError` for what cannot be sent."""
    if not 200 <= status <= 599:
        raise UsageError(f"--respond {status} is not a final HTTP status", hint="200 to 599")
    if body is None:
        return Responder(status)
    if status in BODY_FORBIDDEN:
        raise UsageError(f"--respond {status} has no body by definition", hint="leave out --respond-body")
    if not body.startswith("@"):
        data = body.encode("utf-8", "surrogateescape")
    else:
        path = Path(body[1:]).expanduser()
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BODY + 1)
        except OSError as error:
            raise UsageError(f"--respond-body: cannot read {path}: {error.strerror}") from error
        if len(data) > MAX_BODY:
            raise UsageError(f"--respond-body: {path} is larger than {MAX_BODY} bytes")
    return Responder(status, data, _content_type(data))


def _content_type(data: bytes) -> bytes:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return b"application/octet-stream"
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return b"text/plain; charset=utf-8"
    return b"application/json"


def problem(slug: str, title: str, detail: str, event_id: str, *, status: int = 502) -> Answer:
    """Build an RFC 9457 problem document: `urn:whook:problem:<slug>`, with the event id."""
    body = json.dumps(
        {
            "type": f"urn:whook:problem:{slug}",
            "title": title,
            "status": status,
            "detail": detail,
            "event_id": event_id,
        }
    ).encode("ascii")
    headers = [
        (b"Content-Type", b"application/problem+json"),
        (b"Content-Length", b"%d" % len(body)),
    ]
    return Answer(status, phrase(status), headers, body)
