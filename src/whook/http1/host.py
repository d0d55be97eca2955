"""The Host field: one strict reading of `host[:port]`, used for routing.

Called by the request parser for every request and by the ingress to find the project. Must never guess: two
readers that disagree about a host are how requests reach the wrong tenant, so what is not plainly a host is
refused.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

from whook.http1.events import MessageError

# Longest DNS name (RFC 1035, 2.3.4), a final dot and a port; also keeps the cache small.
_MAX_LENGTH = 253 + 1 + 6
_CACHED = 1024
_MAX_PORT = 65_535

# Narrower than RFC 3986's reg-name: no percent-encoding and no sub-delims, which have no meaning in DNS and
# make room for tricks (a comma is what two merged Host fields look like).
_AUTHORITY = re.compile(
    rb"(?P<name>[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]+)*)\.?(?::(?P<port>[0-9]{0,5}))?"
    rb"|\[(?P<address>[0-9A-Fa-f:.]+)\](?::(?P<port6>[0-9]{0,5}))?"
)


@lru_cache(maxsize=_CACHED)
def parse_host(value: bytes) -> tuple[bytes, int | None]:
    """Split a Host value into the name in lower case and the port, None if it names none (RFC 9110, 7.2).

    A final dot is dropped; an IPv6 address keeps its brackets. Raises MessageError (400, `bad-host`) for a
    value that is empty or malformed.
    """
    match = _AUTHORITY.fullmatch(value) if len(value) <= _MAX_LENGTH else None
    if match is None:
        raise MessageError(400, "bad-host", "The Host field is malformed.")
    name, digits, address, digits6 = match.group("name", "port", "address", "port6")
    if address is not None:
        try:
            IPv6Address(address.decode("ascii"))
        except AddressValueError:
            raise MessageError(400, "bad-host", "The Host field is malformed.") from None
        name, digits = b"[" + address + b"]", digits6
    port = int(digits) if digits else None
    if port is not None and port > _MAX_PORT:
        raise MessageError(400, "bad-host", "The Host field names a port above 65535.")
    return name.lower(), port
