"""Where a provider says which of its webhooks this is, so that one that is sent twice is delivered once.

Called by `storing` for projects that want it. Pure. An id is the provider's word only: it is used within one
project and never as an identity of ours.
"""

from __future__ import annotations

from typing import Final

import msgspec

from whook.http1 import Headers

MAX_BODY: Final = 65_536
"""Bytes of the longest body that is searched for an id."""
_MAX_ID: Final = 256
_KNOWN: Final = (b"x-github-delivery", b"webhook-id", b"svix-id")
"""GitHub; the Standard Webhooks specification; Svix."""
_STRIPE: Final = b"stripe-signature"


class _StripeEvent(msgspec.Struct):
    id: str = ""


_decode = msgspec.json.Decoder(_StripeEvent).decode


def header_id(headers: Headers, configured: bytes) -> str | None:
    """Return the delivery id that a header field gives, with the field's name in front.

    Only the `configured` field (in lower case) counts if there is one. An id that is repeated or too long is
    none.
    """
    wanted = (configured,) if configured else _KNOWN
    found: str | None = None
    for name, value in headers:
        lower = name.lower()
        if lower in wanted:
            if found is not None or not 0 < len(value) <= _MAX_ID:
                return None
            found = f"{lower.decode('ascii')}:{value.decode('latin-1')}"
    return found


def in_body(headers: Headers) -> bool:
    """Return whether the provider puts the id into the body: Stripe does."""
    return any(name.lower() == _STRIPE for name, _ in headers)


def body_id(body: bytes) -> str | None:
    """Return the delivery id in the body of a Stripe event (``evt_…``), or None."""
    try:
        found = _decode(body).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return f"stripe:{found}" if found.startswith("evt_") and len(found) <= _MAX_ID else None
