"""Structured logs: one JSON object per line on a pipe, readable lines on a terminal, always on stderr.

The composition root calls configure_logging once; everything else asks get_logger. Values under names that
hold secrets are masked, and tracebacks never show local variables, since those may be secrets or payloads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]

MASK = "***"
SECRET_NAMES = frozenset(
    {"authorization", "cookie", "password", "secret", "set_cookie", "signing_key", "token", "tunnel_token"}
)
"""Names of log values that are masked, whoever logs them."""


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger whose lines carry ``name`` as ``logger``. It follows a later configure_logging."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


def configure_logging(
    format: Format = "auto",  # noqa: A002
    level: Level = "info",
    stream: TextIO | None = None,
) -> None:
    """Send all logs of the process to ``stream``, by default stderr.

    That includes warnings and the standard library's logging. ``auto`` means ``console`` on a terminal and
    ``json`` elsewhere. Colours need a terminal, and NO_COLOR (no-color.org) turns them off.
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
    ]
    if format == "json":
        final: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        colors = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        plain = structlog.dev.plain_traceback
        final = [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *args: _Lines(out, *args),
    )
    _capture_standard_logging(out, shared, final, number)


def _capture_standard_logging(
    stream: TextIO,
    shared: list[structlog.typing.Processor],
    final: list[structlog.typing.Processor],
    level: int,
) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    # Libraries log their routine at INFO; it is of interest only while debugging.
    logging.basicConfig(
        handlers=[handler], level=level if level == logging.DEBUG else max(level, logging.WARNING), force=True
    )
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


def _mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in SECRET_NAMES & event.keys():
        event[name] = MASK
    return event
