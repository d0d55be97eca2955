"""The scripts that Redis runs: every change of the directory is one of them, hence one step for everybody.

Reads them from the folder ``lua``; the directory names them, the bridge runs them. ``prelude.lua`` holds what
they share, and describes the keys. KEEP and KEPT are the bus's and stand alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).with_name("lua")


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the SHA-1 digest by which Redis knows it (redis.io/commands/evalsha)."""

    text: str
    digest: str


def _read(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text("utf-8")


def _script(name: str) -> Script:
    return _plain(f"{_read('prelude')}\nlocal function body()\n{_read(name)}end\n{_read('finish')}")


def _plain(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


ANNOUNCE = _script("announce")
WITHDRAW = _script("withdraw")
CLAIM = _script("claim")
RECLAIM = _script("reclaim")
RELEASE = _script("release")
ROUTE = _script("route")
ROUTES = _script("routes")
RELAYS = _script("relays")
SWEEP = _script("sweep")
KEEP = _plain(_read("keep"))
KEPT = _plain(_read("kept"))
