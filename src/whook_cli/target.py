"""Where webhooks are forwarded to: the `--forward` value, read and joined with a raw request target.

Owns the text side only. `app` parses the option with it and `forward` joins and rewrites with it. It must
never decode, normalise or re-encode a byte of the sender's target: many signatures cover it.
"""

import re
from dataclasses import dataclass

from whook_cli.exits import UsageError

_PORT = re.compile(r":?(\d{1,20})\Z", re.ASCII)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?\Z", re.ASCII)
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.~-]+)?)\]", re.ASCII)
_PATH = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/%]*\Z", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MEND = "write a port (3000), host:port (localhost:3000) or a URL (http://localhost:3000/base)"


@dataclass(frozen=True, slots=True)
class Target:
    """A local server: `host` is what to connect to, `authority` what a rewritten Host header says.

    `base` is the path put in front of every request target, without its last slash, as given.
    """

    scheme: str
    host: str
    port: int
    base: bytes

    @property
    def tls(self) -> bool:
        """Whether the local server speaks TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> bytes:
        """Host header value for this server (RFC 9110 section 7.2): the default port is left out."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        if self.port == _DEFAULT_PORTS[self.scheme]:
            return host.encode("ascii")
        return f"{host}:{self.port}".encode("ascii")

    @property
    def url(self) -> str:
        """The target as a URL, to be shown."""
        return f"{self.scheme}://{self.authority.decode('ascii')}{self.base.decode('ascii')}"

    def join(self, target: bytes) -> bytes:
        """Put the base path in front of a raw request target, byte for byte.

        The asterisk form (``OPTIONS *``) has no path and stays as it is; an absolute form keeps only what
        follows its authority, since the base replaces scheme and authority too (RFC 9112 section 3.2).
        """
        if not self.base or target == b"*":
            return target
        if target.startswith(b"/"):
            return self.base + target
        _, found, rest = target.partition(b"://")
        if not found:
            return self.base + b"/" + target
        start = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
        path = rest[start:]
        return self.base + (path if path.startswith(b"/") else b"/" + path)


def parse_target(text: str) -> Target:
    """Read a `--forward` value. Raises `UsageError` that names the part that is wrong."""
    text = text.strip()
    if port := _PORT.match(text):
        return Target("http", "localhost", _port(port[1], text), b"")
    scheme, rest = "http", text
    if found := _SCHEME.match(text):
        scheme, rest = found[1].lower(), text[found.end() :]
        if scheme not in _DEFAULT_PORTS:
            raise UsageError(f"cannot forward to {text!r}: {scheme!r} is neither http nor https", hint=_MEND)
    for mark, name in (("#", "a fragment"), ("?", "a query"), ("@", "a user name or password")):
        if mark in rest.partition("/")[0] or (mark != "@" and mark in rest):
            raise UsageError(f"cannot forward to {text!r}: it has {name}", hint=_MEND)
    authority, slash, path = rest.partition("/")
    host, port_text = _split(authority, text)
    base = (slash + path).rstrip("/")
    if not _PATH.match(base):
        raise UsageError(f"cannot forward to {text!r}: percent-encode the path")
    number = _port(port_text, text) if port_text else _DEFAULT_PORTS[scheme]
    return Target(scheme, host, number, base.encode("ascii"))


def _split(authority: str, text: str) -> tuple[str, str]:
    if six := _IPV6.match(authority):
        host, rest = six[1], authority[six.end() :]
    else:
        host, colon, port = authority.partition(":")
        rest = colon + port
        if not _HOST.match(host) or ".." in host:
            raise UsageError(f"cannot forward to {text!r}: {host!r} is not a host name", hint=_MEND)
    if rest and not (rest.startswith(":") and _PORT.match(rest)):
        raise UsageError(f"cannot forward to {text!r}: {rest.removeprefix(':')!r} is not a port", hint=_MEND)
    return host, rest.removeprefix(":")


def _port(digits: str, text: str) -> int:
    number = int(digits)
    if not 1 <= number <= 65535:
        raise UsageError(f"cannot forward to {text!r}: {digits} is not a port (1 to 65535)")
    return number
