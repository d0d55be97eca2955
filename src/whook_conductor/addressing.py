"""Which project a request is for, and the target that its local server sees.

Owns the two ways of addressing a project: by host (`<project>.<base domain>`) and, when switched on, by path
prefix. Called by the ingress once for each request. Pure: whether such a project exists is not its business.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from whook.http1 import RequestHead, parse_host

_LABEL = re.compile(rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Destination(NamedTuple):
    """A project by name, and the raw target to forward."""

    project: str
    target: bytes


class Addressing:
    """The addresses that one conductor answers to."""

    def __init__(self, base_domain: str, path_prefix: str | None = None) -> None:
        """`base_domain` in lower case; `path_prefix` begins and ends with a slash."""
        self._suffix = b"." + base_domain.encode("ascii")
        self._prefix = path_prefix.encode("ascii") if path_prefix else None

    def find(self, head: RequestHead) -> Destination | None:
        """Return where `head` wants to go, or None when it names no project here.

        A target in absolute form goes on as it is; the parser has seen to it that it agrees with Host.
        """
        target = head.target
        name = parse_host(head.host)[0] if head.host else b""
        if name.endswith(self._suffix):
            label = name[: -len(self._suffix)]
            if _LABEL.fullmatch(label):
                return Destination(label.decode("ascii"), target)
            return None
        if self._prefix is not None and target.startswith(self._prefix):
            return self._by_path(target)
        return None

    def _by_path(self, target: bytes) -> Destination | None:
        rest = target[len(self._prefix or b"") :]
        label = re.match(rb"[^/?]*", rest)
        if label is None or not _LABEL.fullmatch(label[0]):
            return None
        remaining = rest[label.end() :]
        if not remaining.startswith(b"/"):
            remaining = b"/" + remaining
        return Destination(label[0].decode("ascii"), remaining)
