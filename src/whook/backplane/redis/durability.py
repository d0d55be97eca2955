"""Whether a Redis keeps what it has acknowledged: judged by its settings, before anything is promised.

Called by the queue through the bridge, on each connection. In doubt never.
"""

from __future__ import annotations

from typing import Final, Literal

from whook.backplane.ports import Unavailable
from whook.backplane.redis.bridge import Check, Config

Durability = Literal["check", "trust"]
"""``trust``: the operator knows that Redis is durable, and whook does not look."""

_WANTED: Final = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


def _judge(config: Config) -> None:
    """Return if a Redis with these settings loses nothing. Raises Unavailable, which says what to set.

    With ``appendfsync always`` an answer is sent after the fsync of what it answers
    (redis.io/docs/latest/operate/oss_and_stack/management/persistence), unless a rewrite of the file runs and
    ``no-appendfsync-on-rewrite`` is on. A memory policy that may evict any key would drop webhooks.
    """
    if not config:
        raise Unavailable(
            "Redis does not let whook read its settings, so nobody knows whether it would keep a webhook: "
            "allow CONFIG GET, or set WHOOK_BACKPLANE_QUEUE_DURABILITY to trust if it writes everything to "
            "disk before it answers"
        )
    wrong = {name: value for name, value in _WANTED.items() if config.get(name) != value}
    policy = config.get("maxmemory-policy", "")
    if config.get("maxmemory", "0") != "0" and policy.startswith("allkeys"):
        wrong["maxmemory-policy"] = "noeviction"
    if wrong:
        lines = ", ".join(f"{name} {value}" for name, value in wrong.items())
        raise Unavailable(
            f"Redis could lose what it has acknowledged, so webhooks are not stored: set {lines}"
        )


DURABLE: Final = Check(("*append*", "maxmemory*"), _judge)
"""Passed by a Redis that keeps what it has acknowledged."""
