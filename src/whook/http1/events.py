"""What the parsers report: message heads, body bytes, ends, and the one error of this package.

Owns the records that pass between `whook.http1` and its two users, the conductor's ingress and the CLI's
local client. Must never hold a socket, a clock or a parser: every record is plain data that its receiver may
keep.
"""

from dataclasses import dataclass
from typing import TypeAlias

Headers: TypeAlias = list[tuple[bytes, bytes]]
"""Header fields as on the wire: case, order, duplicates; values without surrounding OWS (RFC 9110, 5.5)."""


class MessageError(Exception):
    """A message that must not be passed on; the connection it came on cannot be used for another one.

    `status` is what a server answers: 400, 413, 431, 501 or 505 in the request role, always 502 in the
    response role. `type` is a stable slug for logs and problem documents. `detail` is a sentence for people
    and never repeats bytes of the peer.
    """

    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.type = slug
        self.detail = detail

    def __repr__(self) -> str:
        return f"MessageError({self.status}, {self.type!r}, {self.detail!r})"


@dataclass(slots=True)
class RequestHead:
    """Request line and header fields (RFC 9112, 3 and 5), and what follows from them.

    `target` is kept byte for byte. `version` is `b"1.1"` or `b"1.0"`. `host` is the value of the Host field,
    valid for `parse_host`; empty only in HTTP/1.0. `keep_alive` is what the client wants. `upgrade` is true
    if the request asks for another protocol in a way that RFC 9110, 7.8 lets a server act on.
    `content_length` is None without such a field. `expect_continue` is true only if a body follows that the
    client may be holding back.
    """

    method: bytes
    target: bytes
    headers: Headers
    version: bytes
    keep_alive: bool
    upgrade: bool
    chunked: bool
    content_length: int | None
    expect_continue: bool
    host: bytes


@dataclass(slots=True)
class ResponseHead:
    """Status line and header fields (RFC 9112, 4 and 5), and what follows from them.

    `chunked` and `content_length` repeat the fields, also where no body follows (HEAD, 304). `keep_alive`
    says whether the connection can carry another request after this response.
    """

    status: int
    reason: bytes
    headers: Headers
    version: bytes
    keep_alive: bool
    chunked: bool
    content_length: int | None


@dataclass(slots=True)
class Body:
    """The next bytes of the body, without their framing. Never empty."""

    data: bytes


@dataclass(slots=True)
class End:
    """The message is complete. `trailers` are the fields after a chunked body (RFC 9112, 7.1.2)."""

    trailers: Headers


@dataclass(slots=True)
class Upgraded:
    """Bytes of the protocol that took over. The first one follows the 101 at once, and may be empty."""

    data: bytes


@dataclass(slots=True)
class Failed:
    """The last event: what was read cannot be a message. Nothing comes after it."""

    error: MessageError


RequestEvent: TypeAlias = RequestHead | Body | End | Upgraded | Failed
ResponseEvent: TypeAlias = ResponseHead | Body | End | Upgraded | Failed
