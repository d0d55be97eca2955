"""An event as the API gives it raw, read back: an HTTP/1.1 request in one piece of bytes.

Used by `events_export` and `events_replay`. Read by the same parser that the server's ingress has, so that
nothing is understood in another way here.
"""

from dataclasses import dataclass
from typing import Final

from whook.http1 import Body, End, Failed, Headers, RequestHead, RequestParser
from whook_cli.exits import Exit, ExitCode

_MAX_HEAD: Final = 1_048_576
_MAX_BODY: Final = 2**62


@dataclass(frozen=True, slots=True)
class Message:
    """A whole request."""

    method: bytes
    target: bytes
    version: bytes
    headers: Headers
    body: bytes
    trailers: Headers
    head_size: int
    """Bytes of its head."""


def read_message(raw: bytes) -> Message:
    """Read a message. Raises `Exit` for what is none."""
    head: RequestHead | None = None
    body = bytearray()
    trailers: Headers = []
    ended = False
    for event in RequestParser(max_head=_MAX_HEAD, max_body=_MAX_BODY).feed(raw):
        match event:
            case RequestHead():
                head = event
            case Body(data):
                body += data
            case End(fields):
                trailers, ended = fields, True
            case Failed(error):
                raise Exit(ExitCode.UNREACHABLE, f"the server gave no event: {error.detail}")
            case _:
                pass
    if head is None or not ended:
        raise Exit(ExitCode.UNREACHABLE, "the server gave a part of an event only")
    size = raw.find(b"\r\n\r\n") + 4
    return Message(head.method, head.target, head.version, head.headers, bytes(body), trailers, size)
