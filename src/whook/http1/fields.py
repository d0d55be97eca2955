"""Reading the few fields that HTTP/1.1 itself acts on.

Called by the parsers, the encoders and the hop-by-hop rules. Must never change a header list.
"""

from collections.abc import Collection, Iterable


def select(headers: Iterable[tuple[bytes, bytes]], names: Collection[bytes]) -> dict[bytes, bytes]:
    """Return the values of those fields of `names`, in lower case, that are present.

    A repeated field is joined with commas (RFC 9110, 5.3).
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in names:
            found[lower] = found[lower] + b", " + value if lower in found else value
    return found


def tokens(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list (RFC 9110, 5.6.1) in lower case, empty ones left out."""
    if b"," not in value:
        token = value.strip(b" \t").lower()
        return [token] if token else []
    return [token for part in value.split(b",") if (token := part.strip(b" \t").lower())]
