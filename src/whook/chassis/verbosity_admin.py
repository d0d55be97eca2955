"""What the admin port tells and changes about logging: /debug/log-level and /debug/log-exchanges.

`admin` asks it first. GET tells; PUT changes, until the process ends or the next PUT, and only for who asks
from the machine itself: the admin port may be open to a scraper elsewhere, which has nothing to change.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from whook.chassis.logs import get_logger
from whook.chassis.problem import CONTENT_TYPE, problem
from whook.chassis.verbosity import LEVELS, VERBOSITY

LEVEL_PATH: Final = "/debug/log-level"
EXCHANGES_PATH: Final = "/debug/log-exchanges"
_MAX_BODY: Final = 64
"""Bytes: a level or a number has less."""

_log = get_logger("whook.daemon")

Answer = tuple[int, str, bytes]


async def answer(scope: Any, receive: Any) -> Answer | None:
    """Return status, content type and body; None if the path is another's."""
    path, method = scope["path"], scope["method"]
    if path not in (LEVEL_PATH, EXCHANGES_PATH):
        return None
    if method == "PUT":
        if not _is_local(scope.get("client")):
            detail = "Only from the machine itself: connect to the admin port over loopback."
            return 403, CONTENT_TYPE, problem(403, "forbidden", "", detail)
        text = await _text(receive)
        fault = _set_level(text) if path == LEVEL_PATH else _set_share(text)
        if fault:
            return 422, CONTENT_TYPE, problem(422, "invalid-request", "", fault)
        _log.warning("logging was changed", log_level=VERBOSITY.level, log_exchanges=VERBOSITY.share)
    elif method not in ("GET", "HEAD"):
        return 405, CONTENT_TYPE, problem(405, "method-not-allowed")
    value = VERBOSITY.level if path == LEVEL_PATH else f"{VERBOSITY.share:g}"
    return 200, "text/plain", f"{value}\n".encode()


def _set_level(text: str) -> str:
    for level in LEVELS:
        if level == text:
            VERBOSITY.level = level
            return ""
    return f"The body is one of: {', '.join(LEVELS)}."


def _set_share(text: str) -> str:
    try:
        VERBOSITY.share = float(text)
    except ValueError:
        return "The body is a number from 0 to 1."
    return ""


async def _text(receive: Any) -> str:
    body, more = b"", True
    while more and len(body) <= _MAX_BODY:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body.decode("ascii", "replace").strip()


def _is_local(client: tuple[str, int] | None) -> bool:
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
