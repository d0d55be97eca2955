"""Errors that were contained, on their way to whoever collects them; and what they are about.

An error that a wrapper contains is logged with its exception, and `logs` hands it on from there, so that no
wrapper can forget to. The collector is `error_reports`, where one is configured. Must never raise, and never
wait: it runs wherever something is logged, in any thread.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Protocol, cast

TAGS: Final = ("event_id", "tunnel", "project", "project_id", "listener", "daemon")
"""Values of a log line by which an error can be found."""

_ABOUT: Final = "about "


class Collector(Protocol):
    """Takes errors. Must not raise, and not wait."""

    def take(self, error: BaseException, what: str, tags: Mapping[str, str]) -> None:
        """Take one error; `what` is the line that it was logged with."""
        ...


_collectors: list[Collector] = []


def collected() -> bool:
    """Whether anybody collects errors."""
    return bool(_collectors)


def collect(collector: Collector) -> None:
    """Let `collector` have every error from now on."""
    _collectors.append(collector)


def collect_no_more(collector: Collector) -> None:
    """End what `collect` began."""
    _collectors.remove(collector)


def about(error: BaseException, **tags: str) -> None:
    """Note on `error` what it is about, for the log as for the collector: `event_id="evt_…"`."""
    for name, value in tags.items():
        if value:
            error.add_note(f"{_ABOUT}{name}={value}")


def tell(line: Mapping[str, Any]) -> None:
    """Give the exception of a log line to the collectors."""
    error = _exception(line.get("exc_info"))
    if error is None:
        return
    tags = {name: str(line[name]) for name in TAGS if line.get(name)}
    tags.update(notes(error))
    for collector in _collectors:
        collector.take(error, str(line.get("event", "")), tags)


def _exception(info: object) -> BaseException | None:
    if isinstance(info, BaseException):
        return info
    if isinstance(info, tuple):
        return cast("tuple[object, BaseException | None, TracebackType | None]", info)[1]
    return sys.exc_info()[1] if info else None


def notes(error: BaseException) -> dict[str, str]:
    """Return what `about` has noted on the error or, in a group, on any of its parts; the first counts."""
    found: dict[str, str] = {}
    for part in _parts(error):
        for note in getattr(part, "__notes__", ()):
            name, equals, value = note.removeprefix(_ABOUT).partition("=")
            if note.startswith(_ABOUT) and equals:
                found.setdefault(name, value)
    return found


def _parts(error: BaseException) -> Iterator[BaseException]:
    yield error
    if isinstance(error, BaseExceptionGroup):
        for part in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _parts(part)
