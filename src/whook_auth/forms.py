"""Forms as browsers and OAuth clients send them (application/x-www-form-urlencoded), read without a library.

Used by the OAuth operations and the pages. A field that comes twice is refused (RFC 6749 section 3.1).
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request

MAX_FIELDS = 20
"""More than any form here has."""
CONTENT_TYPE = "application/x-www-form-urlencoded"


class BadFormError(Exception):
    """The body is no form, or a malformed one."""


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of the form in the request's body. Raises BadFormError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != CONTENT_TYPE:
        raise BadFormError("send a form")
    try:
        fields = parse_qsl(
            (await request.body()).decode(),
            keep_blank_values=True,
            strict_parsing=False,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise BadFormError("the form cannot be read") from None
    form = dict(fields)
    if len(form) != len(fields):
        raise BadFormError("a field comes twice")
    if any("\x00" in text for field in fields for text in field):
        raise BadFormError("a field has a character that no text has")
    return form
