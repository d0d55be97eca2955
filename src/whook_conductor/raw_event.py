"""A stored event as the HTTP/1.1 message that it was.

Called by the events API. Pure. What the store keeps is given back byte for byte: the start line, the fields
with their case, order and duplicates, the body. Of a chunked body the content is kept and not the cuts, so it
is one chunk here.
"""

from __future__ import annotations

from whook.backplane.ports import StoredEvent
from whook.http1 import Framing, encode_chunk, encode_last_chunk, encode_request_head, request_framing

MEDIA_TYPE = "message/http"
"""RFC 9112 section 10.1."""


def raw_message(event: StoredEvent, body: bytes) -> list[bytes]:
    """Return the message in pieces: its head, then its body. Raises ValueError for what is no message."""
    head = encode_request_head(event.method, event.target, event.headers, event.version)
    if request_framing(event.headers) is Framing.CHUNKED:
        return [head, encode_chunk(body), encode_last_chunk(event.trailers)]
    return [head, body] if body else [head]
