"""Whether what goes to a server can be read on its way. Used before a token is sent there."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_private(server: str) -> bool:
    """Whether nobody on the way can read what goes to this server: TLS, or it is on this machine."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
