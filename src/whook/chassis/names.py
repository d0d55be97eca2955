"""Project names: one DNS label, since a project is reached at ``<name>.<base-domain>``.

Called by whatever takes a project name from outside (API, CLI, ingress settings). It never looks anything up.
"""

from __future__ import annotations

import re

MAX_LENGTH = 63
"""Longest DNS label, in characters (RFC 1035 section 2.3.4)."""

_OWN = """
admin api app auth conductor console dashboard docs health healthz help ingress inspector internal login
logout metrics readyz relay relays static status support trunk tunnel tunnels whook ws www
"""
# Hosts to which mail, DNS and certificate authorities give a meaning (RFC 2142 among others).
_MEANINGFUL = """
abuse autoconfig autodiscover dns ftp hostmaster imap local localhost mail mx noreply ns ns1 ns2 pop pop3
postmaster root security smtp ssl sslcert tls webmaster
"""
# Clients of a network look these up by themselves: proxy discovery and IPv6 tunnels.
_LOOKED_UP = "isatap wpad"

RESERVED = frozenset(f"{_OWN} {_MEANINGFUL} {_LOOKED_UP}".split())
"""Names that no project may take."""

RESERVED_PREFIXES = ("relay-", "conductor-", "auth-")
"""Single instances of a service are reached under these."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z", re.ASCII)


def check_project_name(name: str) -> str:
    """Return ``name`` unchanged if a project may have it.

    It must be a DNS label in lower case (RFC 1123 section 2.1), must not be reserved, and must not have
    hyphens in its third and fourth place, where RFC 5891 section 4.2.3.1 keeps labels such as ``xn--…`` for
    encoded names. Raises ValueError with one sentence that says what is wrong and, where one exists, a name
    to use.
    """
    fault = _fault(name)
    if fault is None:
        return name
    mend = _mend(name)
    raise ValueError(f"project name {name[:80]!r} {fault}" + (f"; use {mend!r}" if mend else ""))


def _fault(name: str) -> str | None:
    if not name:
        return "is empty: give 1 to 63 characters of a-z, 0-9 and '-'"
    if len(name) > MAX_LENGTH:
        return f"has {len(name)} characters: at most {MAX_LENGTH} fit into a DNS label"
    if not _LABEL.match(name):
        return "must have only a-z, 0-9 and '-', and begin and end with a letter or digit"
    if name[2:4] == "--":
        return "must not have '--' after its second character"
    if name in RESERVED or name.startswith(RESERVED_PREFIXES):
        return "is reserved"
    return None


def _mend(name: str) -> str | None:
    """Return a permitted name close to ``name``, if there is an obvious one."""
    candidate = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MAX_LENGTH].rstrip("-")
    if candidate and _fault(candidate) == "is reserved":
        candidate = f"my-{candidate}"[:MAX_LENGTH].rstrip("-")
    return candidate if candidate and _fault(candidate) is None else None
