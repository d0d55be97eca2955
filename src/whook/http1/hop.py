"""What a proxy must not pass on (RFC 9110, 7.6.1).

Called by the ingress, on requests before they travel and on responses before they leave. Must never touch
end-to-end fields, their order or their case, and must never drop what frames or routes the message.
"""

from whook.http1.events import Headers
from whook.http1.fields import select, tokens

_CONNECTION = b"connection"
_HOP = frozenset({_CONNECTION, b"keep-alive", b"proxy-connection", b"te", b"upgrade"})

# A sender that lists one of these in Connection wants the next hop to lose the framing or the host: they
# stay.
_ESSENTIAL = frozenset({b"content-length", b"transfer-encoding", b"host"})


def hop_by_hop(headers: Headers, *, upgrade: bool) -> Headers:
    """Return the fields that travel on, in a new list.

    Connection and what it names, Keep-Alive, Proxy-Connection and Upgrade do not. Of TE only `trailers`
    stays. Transfer-Encoding stays where it is, because the body is sent on as chunked. With `upgrade`,
    Upgrade and the `upgrade` option of Connection stay as well.
    """
    connection = select(headers, (_CONNECTION,)).get(_CONNECTION)
    named = set(tokens(connection)) - _ESSENTIAL if connection else ()
    kept: Headers = []
    for pair in headers:
        lower = pair[0].lower()
        if lower in _HOP:
            rest = _rewritten(lower, pair[1], upgrade=upgrade)
            if rest is not None:
                kept.append((pair[0], rest))
        elif lower not in named:
            kept.append(pair)
    return kept


def _rewritten(name: bytes, value: bytes, *, upgrade: bool) -> bytes | None:
    """Return what stays of the value of a hop-by-hop field, None for nothing."""
    if name == b"te":
        return b"trailers" if b"trailers" in tokens(value) else None
    if upgrade and name == b"upgrade":
        return value
    if upgrade and name == _CONNECTION:
        # The option as it was sent: some local servers compare it byte for byte.
        for option in value.split(b","):
            if option.strip(b" \t").lower() == b"upgrade":
                return option.strip(b" \t")
    return None
