"""Structured logs: one JSON object per line on a pipe, readable lines on a terminal, always on stderr.

The composition root calls configure_logging once; everything else asks get_logger. Values under names that
hold secrets are masked, and so is each secret of the settings wherever it appears; tracebacks never show
local variables, since those may be secrets or payloads. How much is logged can change at any time: see
`verbosity`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, Final, Literal, TextIO, cast

import structlog

from whook.chassis import contained
from whook.chassis.verbosity import VERBOSITY, Level

Format = Literal["auto", "json", "console"]

MASK = "***"
SECRET_NAMES = frozenset(
    {
        "authorization",
        "cluster_key",
        "cookie",
        "dsn",
        "password",
        "secret",
        "service_key",
        "set_cookie",
        "signing_key",
        "storage_key",
        "token",
        "tunnel_token",
    }
)
"""Names of log values that are masked, whoever logs them."""
SHORTEST_SECRET: Final = 8
"""Characters of a secret from which on it is looked for in every line: a shorter one would mask words."""

_TALKATIVE: Final = ("httpcore", "httpx")
"""Libraries whose routine lines have URLs and header fields in them."""
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""Of syslog (RFC 5424 section 6.2.1)."""

_NUMBERS: Final = {name.lower(): number for name, number in logging.getLevelNamesMapping().items()}

_hidden: set[str] = set()


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger whose lines carry ``name`` as ``logger``. It follows a later configure_logging."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


def hide(secrets: Iterable[str]) -> None:
    """Mask these texts from now on, wherever a line has them: in a URL, an exception, a library's message."""
    _hidden.update(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)


def mask(text: str) -> str:
    """Return the text without what `hide` was given."""
    for secret in _hidden:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def configure_logging(
    format: Format = "auto",  # noqa: A002
    level: Level = "info",
    stream: TextIO | None = None,
    *,
    exchanges: float = 0.0,
) -> None:
    """Send all logs of the process to ``stream``, by default stderr.

    That includes warnings and the standard library's logging. ``auto`` means ``console`` on a terminal and
    ``json`` elsewhere; JSON that systemd hands to its journal has each line's priority in front
    (sd-daemon(3)). Colours need a terminal, and NO_COLOR (no-color.org) turns them off. ``exchanges`` is the
    share of exchanges that get a line each, 0 to 1.
    """
    out: TextIO = sys.stderr if stream is None else stream
    terminal = out.isatty()
    if format == "auto":
        format = "console" if terminal else "json"  # noqa: A001
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
        _mask_secrets,
        _report,
    ]
    if format == "json":
        final: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            _mask_values,
            _render_for_journal
            if _is_journal(out)
            else structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        colors = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        plain = structlog.dev.plain_traceback
        final = [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain), _mask_line]
    structlog.configure(
        processors=[_drop_below, *shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),  # _drop_below can change its mind
        logger_factory=lambda *args: _Lines(out, *args),
    )
    _capture_standard_logging(out, shared, final)
    VERBOSITY.level = level
    VERBOSITY.share = exchanges


def _capture_standard_logging(
    stream: TextIO,
    shared: list[structlog.typing.Processor],
    final: list[structlog.typing.Processor],
) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    logging.basicConfig(handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False


class _Lines:
    """Writes finished lines. A log reader that has gone away must not fail the daemon."""

    def __init__(self, stream: TextIO, name: str = "") -> None:
        self._stream = stream
        self.name = name

    def msg(self, message: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            self._stream.write(message + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd reads the stream for its journal (systemd.exec(5), JOURNAL_STREAM)."""
    with contextlib.suppress(OSError, ValueError):
        found = os.fstat(stream.fileno())
        return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
    return False


_render_json = structlog.processors.JSONRenderer(ensure_ascii=False)


def _render_for_journal(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    priority = _PRIORITIES.get(event.get("level", ""), 6)
    rendered = _render_json(logger, method, event)
    return f"<{priority}>{rendered if isinstance(rendered, str) else rendered.decode()}"


def _drop_below(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if _NUMBERS.get(method, logging.ERROR) < VERBOSITY.number:
        raise structlog.DropEvent
    return event


def _mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in SECRET_NAMES & event.keys():
        event[name] = MASK
    return event


def _report(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hand the exception of a line, if it has one, to whoever collects errors."""
    if event.get("exc_info") and contained.collected():
        contained.tell(event)
    return event


def _mask_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask before JSON escapes anything: in the finished line a secret may look otherwise."""
    return {name: mask_all(value) for name, value in event.items()} if _hidden else event


def mask_all(value: Any) -> Any:
    """Return the value with `mask` done to every text in it; what JSON does not know becomes its repr."""
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {mask(str(name)): mask_all(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_all(inner) for inner in cast("list[Any]", value)]
    return mask(repr(value))  # as the renderer would


def _mask_line(_logger: Any, _method: str, line: Any) -> Any:
    return mask(line) if isinstance(line, str) else line
