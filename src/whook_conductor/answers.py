"""The answers that the conductor gives itself when a request cannot be handed on.

Owns the stable problem types a sender may see and their bytes on the wire (RFC 9457). Called by the ingress
and by nothing else; the control API words its own problems in `api`. Must never say anything about the inside
of the service (addresses, tracebacks, names of relays): a sender is a stranger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Literal

from whook.backplane.ports import Limit
from whook.chassis.problem import CONTENT_TYPE, problem
from whook.wire import ResetCode


@dataclass(frozen=True, slots=True)
class Answer:
    """One refusal: what went wrong, in the terms of RFC 9457 section 3.

    `slug` is the stable part of `urn:whook:problem:<slug>`. `retry_after` is in seconds (RFC 9110 section
    10.2.3). `limit`, where one was reached, is the extension member that names it.
    """

    status: int
    slug: str
    title: str
    detail: str
    retry_after: int | None = None
    limit: str = ""


UNKNOWN_PROJECT: Final = Answer(
    404,
    "unknown-project",
    "Unknown project",
    "No project answers to this address. Check the host name, or connect once to create the project.",
)
NO_TUNNEL: Final = Answer(
    503,
    "no-tunnel",
    "No tunnel",
    "The project exists, but nobody is connected to receive its webhooks now. Send it again later.",
    retry_after=5,
)
TUNNEL_LOST: Final = Answer(
    502,
    "tunnel-lost",
    "Tunnel lost",
    "The tunnel broke before an answer came back. The request may or may not have been handled.",
)
NO_ANSWER: Final = Answer(
    502,
    "no-answer",
    "No answer",
    "The far end gave the request up before it had answered. It may or may not have been handled.",
)
BAD_ANSWER: Final = Answer(
    502, "bad-answer", "Bad answer", "The far end of the tunnel sent an answer that is not valid HTTP."
)
DEADLINE_EXCEEDED: Final = Answer(
    504,
    "deadline-exceeded",
    "Deadline exceeded",
    "No answer came back in time. The request may or may not have been handled.",
)
OVERLOADED: Final = Answer(
    503,
    "overloaded",
    "Overloaded",
    "Too many requests are under way. Send it again later.",
    retry_after=2,
)
DRAINING: Final = Answer(
    503,
    "draining",
    "Shutting down",
    "This server is being stopped and takes no new requests. Send it again.",
    retry_after=1,
)
UNAVAILABLE: Final = Answer(
    503,
    "unavailable",
    "Temporarily unavailable",
    "The server cannot tell at the moment who receives this request. Send it again later.",
    retry_after=5,
)
REQUEST_TIMEOUT: Final = Answer(
    408, "request-timeout", "Request timeout", "The request did not arrive in time."
)
TOO_LARGE: Final = Answer(
    413, "body-too-large", "Body too large", "The far end of the tunnel does not take a body of this size."
)
HEAD_TOO_LARGE: Final = Answer(
    431, "head-too-large", "Head too large", "The request's head is too long to be passed on."
)

BACKLOG: Final = Answer(
    503,
    "backlog",
    "Earlier webhooks wait",
    "Earlier webhooks of this project wait for their delivery, and this one is too large to be stored behind "
    "them. Send it again later.",
    retry_after=30,
)
QUEUE_UNAVAILABLE: Final = Answer(
    503,
    "queue-unavailable",
    "Queue unavailable",
    "The webhook can neither be delivered nor be stored now. Send it again later.",
    retry_after=5,
)
DUPLICATE_RUNNING: Final = Answer(
    503,
    "duplicate-running",
    "Duplicate",
    "A webhook with the same delivery id is being handled at this moment. Send it again later.",
    retry_after=5,
)
_LIMITS: Final[dict[Limit, str]] = {
    "project-count": "as many webhooks of this project wait as its policy allows",
    "project-bytes": "as many bytes of this project wait as its policy allows",
    "project-age": "the oldest webhook of this project that waits is older than its policy allows",
    "total-count": "as many webhooks wait as this server takes",
    "total-bytes": "as many bytes wait as this server takes",
}
_FULL: Final = {
    limit: Answer(
        503,
        "queue-full",
        "Queue full",
        f"The webhook cannot be delivered now, and {why}. Send it again later.",
        retry_after=30,
        limit=limit,
    )
    for limit, why in _LIMITS.items()
}

BUFFERABLE: Final = frozenset(
    {NO_TUNNEL, TUNNEL_LOST, NO_ANSWER, DEADLINE_EXCEEDED, OVERLOADED, UNAVAILABLE, BACKLOG}
)
"""The answers instead of which a webhook is stored, where its project wants that and it can be done."""

_OF_RESET: Final[dict[int, Answer]] = {
    ResetCode.OVERLOADED: OVERLOADED,
    ResetCode.NO_TUNNEL: NO_TUNNEL,
    ResetCode.TUNNEL_LOST: TUNNEL_LOST,
    ResetCode.DEADLINE: DEADLINE_EXCEEDED,
    ResetCode.TOO_LARGE: TOO_LARGE,
    ResetCode.DRAINING: NO_TUNNEL,
}


def answer_to_reset(code: int) -> Answer:
    """Return what the sender is told when its exchange was reset before a response head.

    DRAINING says that the far end is leaving, so for the sender there is no tunnel for the moment. Codes that
    only tell of trouble at the far end, and those of a newer peer, become `no-answer`.
    """
    return _OF_RESET.get(code, NO_ANSWER)


def queue_full(limit: Limit) -> Answer:
    """Return the refusal of a webhook that would go beyond a limit of the queue."""
    return _FULL[limit]


def bad_message(status: int, slug: str, detail: str) -> Answer:
    """Return the refusal of a request that the parser would not accept, from the parts of its error."""
    return Answer(status, slug, slug.replace("-", " ").capitalize(), detail)


def encode_answer(
    answer: Answer, *, head_only: bool = False, close: bool = False, event_id: str = ""
) -> bytes:
    """Return `answer` as one whole HTTP/1.1 response.

    `head_only` leaves the body out, as the answer to HEAD must (RFC 9110 section 9.3.2). `close` announces
    that the connection will be closed. `event_id`, when there is one, is named in the body so that sender and
    developer can talk about the same request.
    """
    extra = {"event_id": event_id} if event_id else {}
    if answer.limit:
        extra["limit"] = answer.limit
    body = problem(answer.status, answer.slug, answer.title, answer.detail, **extra)
    lines = [
        f"HTTP/1.1 {answer.status} {_phrase(answer.status)}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
    ]
    if answer.retry_after is not None:
        lines.append(f"Retry-After: {answer.retry_after}")
    if close:
        lines.append("Connection: close")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    return head if head_only else head + body


def encode_acknowledgement(
    event_id: str,
    *,
    status: int,
    said: Literal["buffered", "duplicate"] = "buffered",
    body: str | None = None,
    content_type: str = "application/json",
    head_only: bool = False,
    keep_alive: bool = True,
    http_1_0: bool = False,
) -> bytes:
    """Return the acknowledgement of a webhook that was stored, or was before, as one whole response.

    `body` is what the project wants said; by default a JSON object. A status that has no content (RFC 9110
    section 15.3.5) gets none.
    """
    if body is None:
        content_type = "application/json"
        body = json.dumps({"event_id": event_id, "status": said}, separators=(",", ":")) + "\n"
    data = body.encode()
    lines = [
        f"HTTP/1.1 {status} {_phrase(status)}",
        f"Date: {formatdate(usegmt=True)}",
        f"Whook-Event-Id: {event_id}",
    ]
    if status in (204, 205):
        data = b""
    if status != 204:
        if data:
            lines.append(f"Content-Type: {content_type}")
        lines.append(f"Content-Length: {len(data)}")
    if not keep_alive:
        lines.append("Connection: close")
    elif http_1_0:
        lines.append("Connection: keep-alive")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    return head if head_only else head + data


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
