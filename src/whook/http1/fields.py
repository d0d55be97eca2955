"""Reading single header values: lists of tokens.

Called by the parsers and by the hop-by-hop rules. Must never change a header list.
"""


def tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list (RFC 9110, 5.6.1) in lower case, empty ones left out."""
    if b"," not in value:
        token = value.strip(b" \t").lower()
        return [token] if token else []
    return [token for part in value.split(b",") if (token := part.strip(b" \t").lower())]
