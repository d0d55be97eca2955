"""The scripts that Redis runs: each call of directory and queue is one of them, hence one step for everybody.

Reads them from the folder ``lua``; directory and queue name them, the bridge runs them. Each of the two has a
folder with a ``prelude.lua``, which holds what its scripts share and describes its keys. KEEP and KEPT are
the bus's and stand alone.
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
    folder = name.rpartition("/")[0]
    first, last = (f"{folder}/{part}" if folder else part for part in ("prelude", "finish"))
    return _plain(f"{_read(first)}\nlocal function body()\n{_read(name)}end\n{_read(last)}")


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
LEASES = _script("leases")
SWEEP = _script("sweep")
KEEP = _plain(_read("keep"))
KEPT = _plain(_read("kept"))

QUEUE_APPEND = _script("queue/append")
QUEUE_BACKLOG = _script("queue/backlog")
QUEUE_BACKLOGS = _script("queue/backlogs")
QUEUE_VERSION = _script("queue/version")
QUEUE_ATTEND = _script("queue/attend")
QUEUE_LEAVE = _script("queue/leave")
QUEUE_ACQUIRE = _script("queue/acquire")
QUEUE_RELEASE = _script("queue/release")
QUEUE_READ = _script("queue/read")
QUEUE_SETTLE = _script("queue/settle")
QUEUE_DEFER = _script("queue/defer")
QUEUE_REMEMBER = _script("queue/remember")
QUEUE_FORGET = _script("queue/forget")
