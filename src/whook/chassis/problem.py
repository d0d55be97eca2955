"""Error answers as problem details (RFC 9457), for the JSON APIs and for the ingress.

Called by everything that answers HTTP. It only builds bytes: which error becomes which problem is decided by
the caller, and nothing internal (exception texts, hosts, paths) may be put into a problem.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus

CONTENT_TYPE = "application/problem+json"
"""Media type of a problem (RFC 9457 section 3)."""

TYPE_PREFIX = "urn:whook:problem:"
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")

RawHeaders = list[tuple[bytes, bytes]]


def problem(status: int, slug: str, title: str = "", detail: str = "", **extra: object) -> bytes:
    """Return the JSON body of a problem.

    ``slug`` is the stable machine-readable kind, lower-case words joined by hyphens; it becomes the type
    ``urn:whook:problem:<slug>``. ``title`` is the same for every problem of that kind (by default the status
    code's phrase), ``detail`` explains this one. ``extra`` are extension members (RFC 9457 section 3.2).
    Raises ValueError for a malformed slug or an extension that takes the name of a standard member.
    """
    if not _SLUG.match(slug):
        raise ValueError(f"problem slug {slug!r} must be lower-case words joined by '-'")
    if taken := extra.keys() & {"type", "instance"}:
        raise ValueError(f"{', '.join(sorted(taken))} cannot be an extension member of a problem")
    body: dict[str, object] = {
        "type": TYPE_PREFIX + slug,
        "title": title or _phrase(status),
        "status": status,
    }
    if detail:
        body["detail"] = detail
    body.update(extra)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def raw_response(status: int, body: bytes, headers: RawHeaders | None = None) -> bytes:
    """Return a whole HTTP/1.1 response around ``body`` that also closes the connection.

    For answers given without an HTTP parser at hand, such as a refusal at accept time.
    """
    head = [
        b"HTTP/1.1 %d %s" % (status, _phrase(status).encode()),
        b"Content-Type: " + CONTENT_TYPE.encode(),
        b"Content-Length: %d" % len(body),
        *(name + b": " + value for name, value in headers or ()),
        b"Connection: close",
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


class ProblemError(Exception):
    """An error with its answer: raise it inside a handler, and let one place turn it into a response.

    ``retry_after`` (seconds) becomes a Retry-After header (RFC 9110 section 10.2.3).
    """

    def __init__(
        self,
        status: int,
        slug: str,
        title: str = "",
        detail: str = "",
        *,
        retry_after: int | None = None,
        **extra: object,
    ) -> None:
        super().__init__(detail or title or slug)
        self.status = status
        self.slug = slug
        self.title = title
        self.detail = detail
        self.retry_after = retry_after
        self.extra = extra

    @property
    def body(self) -> bytes:
        """The JSON body."""
        return problem(self.status, self.slug, self.title, self.detail, **self.extra)

    @property
    def headers(self) -> RawHeaders:
        """The headers that belong to it: Content-Type and, if given, Retry-After. No Content-Length."""
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        if self.retry_after is not None:
            headers.append((b"retry-after", b"%d" % self.retry_after))
        return headers


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
