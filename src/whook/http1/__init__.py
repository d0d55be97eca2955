"""HTTP/1.1 messages, sans-IO: bytes to events and back, in both roles.

Owns parsing, body framing, hop-by-hop rules and encoding. Called by the conductor's ingress (`RequestParser`,
`encode_response_head`) and by the CLI's local client (`ResponseParser`, `encode_request_head`). Must never
touch a socket, a clock or trio, and never change a header that it passes on.
"""

from whook.http1.encode import (
    Framing,
    encode_chunk,
    encode_last_chunk,
    encode_request_head,
    encode_response_head,
    request_framing,
    response_framing,
)
from whook.http1.events import (
    Body,
    End,
    Failed,
    Headers,
    MessageError,
    RequestEvent,
    RequestHead,
    ResponseEvent,
    ResponseHead,
    Upgraded,
)
from whook.http1.hop import hop_by_hop
from whook.http1.host import parse_host
from whook.http1.request import RequestParser
from whook.http1.response import ResponseParser

__all__ = [
    "Body",
    "End",
    "Failed",
    "Framing",
    "Headers",
    "MessageError",
    "RequestEvent",
    "RequestHead",
    "RequestParser",
    "ResponseEvent",
    "ResponseHead",
    "ResponseParser",
    "Upgraded",
    "encode_chunk",
    "encode_last_chunk",
    "encode_request_head",
    "encode_response_head",
    "hop_by_hop",
    "parse_host",
    "request_framing",
    "response_framing",
]
