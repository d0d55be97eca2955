"""Process metrics for Prometheus.

Services declare their metrics here (module-level counters, or values read at scrape time); admin.py renders
them. A hot path keeps plain integers and ``Durations`` and lets ``watch`` read them: incrementing a
prometheus_client counter costs about a microsecond. Labels must come from small fixed sets, never from a
request.
"""

from __future__ import annotations

import contextlib
import platform
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from importlib import metadata
from itertools import accumulate
from typing import Literal, TypeVar

import prometheus_client
import trio
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from whook.chassis.drain import Drain
from whook.chassis.logs import get_logger
from whook.chassis.readiness import Readiness

REGISTRY = prometheus_client.REGISTRY
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

LAG_INTERVAL = 0.5
"""Seconds between two measurements of the event loop's lag."""
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

K = TypeVar("K")

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # half of all series otherwise

_log = get_logger("whook.metrics")
_declared: dict[str, Counter | Gauge | Histogram] = {}


def counter(name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
    """Return the counter of this name, declared at its first use."""
    found = _declared.get(name)
    if found is None:
        found = _declared[name] = Counter(name, documentation, labels, registry=REGISTRY)
    if not isinstance(found, Counter):
        raise TypeError(f"metric {name!r} is already declared with another type")
    return found


def gauge(name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
    """Return the gauge of this name, declared at its first use."""
    found = _declared.get(name)
    if found is None:
        found = _declared[name] = Gauge(name, documentation, labels, registry=REGISTRY)
    if not isinstance(found, Gauge):
        raise TypeError(f"metric {name!r} is already declared with another type")
    return found


def histogram(
    name: str,
    documentation: str,
    labels: Sequence[str] = (),
    buckets: Sequence[float] = Histogram.DEFAULT_BUCKETS,
) -> Histogram:
    """Return the histogram of this name, declared at its first use. ``buckets`` are upper bounds."""
    found = _declared.get(name)
    if found is None:
        found = _declared[name] = Histogram(name, documentation, labels, buckets=buckets, registry=REGISTRY)
    if not isinstance(found, Histogram):
        raise TypeError(f"metric {name!r} is already declared with another type")
    return found


BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds, from what the tunnel itself takes to the longest that a sender waits."""


class Durations:
    """A histogram for the hot path: one observation costs a fifth of prometheus_client's.

    Not for use by several threads. `watch_durations` publishes it.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = BUCKETS) -> None:
        """``bounds`` are upper bounds in seconds, rising, without infinity."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """By bucket, not cumulative; the last one is for what is above all bounds."""
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class _Family:
    """One metric that is read when scraped, with the functions that give its values."""

    __slots__ = ("documentation", "kind", "labels", "readers")

    def __init__(
        self, kind: Literal["gauge", "counter"], documentation: str, labels: tuple[str, ...]
    ) -> None:
        self.kind = kind
        self.documentation = documentation
        self.labels = labels
        self.readers: list[tuple[tuple[str, ...], Callable[[], float]]] = []


class _Watched(Collector):
    """Reads the watched values of the process. Equal labels (two servers of one kind in a process) add up."""

    def __init__(self) -> None:
        self.families: dict[str, _Family] = {}
        self.durations: dict[str, _Timed] = {}

    def describe(self) -> list[Metric]:
        return []  # otherwise registering would already read every value

    def collect(self) -> Iterator[Metric]:
        for name, family in list(self.families.items()):
            sums: dict[tuple[str, ...], float] = {}
            for values, read in list(family.readers):
                try:
                    sums[values] = sums.get(values, 0.0) + read()
                except Exception:  # noqa: BLE001 - one broken reader must not hide every other metric
                    _log.exception("metric cannot be read", metric=name)
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(name, family.documentation, labels=family.labels)
            for values, total in sums.items():
                metric.add_metric(values, total)
            yield metric
        for name, timed in list(self.durations.items()):
            yield timed.collect(name)


class _Timed:
    """One histogram that is read when scraped."""

    __slots__ = ("documentation", "labels", "parts")

    def __init__(self, documentation: str, labels: tuple[str, ...]) -> None:
        self.documentation = documentation
        self.labels = labels
        self.parts: list[tuple[tuple[str, ...], Durations]] = []

    def collect(self, name: str) -> Metric:
        metric = HistogramMetricFamily(name, self.documentation, labels=self.labels)
        found: dict[tuple[str, ...], list[Durations]] = {}
        for values, durations in self.parts:
            found.setdefault(values, []).append(durations)
        for values, many in found.items():
            counts = accumulate(map(sum, zip(*(one.counts for one in many), strict=True)))
            bounds = [*map(str, many[0].bounds), "+Inf"]
            metric.add_metric(
                values,
                buckets=list(zip(bounds, counts, strict=True)),
                sum_value=sum(one.total for one in many),
            )
        return metric


_watched = _Watched()
REGISTRY.register(_watched)


@contextlib.contextmanager
def watch(
    name: str,
    documentation: str,
    read: Callable[[], float],
    /,
    *,
    kind: Literal["gauge", "counter"] = "gauge",
    **labels: str,
) -> Generator[None]:
    """Publish what ``read`` returns at each scrape, as long as the block runs.

    ``read`` is called on the event loop and must be quick and synchronous. Raises ValueError if the metric is
    already watched with another kind or other label names.
    """
    names = tuple(labels)
    family = _watched.families.get(name)
    if family is None:
        family = _watched.families[name] = _Family(kind, documentation, names)
    elif (family.kind, family.labels) != (kind, names):
        raise ValueError(f"metric {name!r} is already watched as a {family.kind} with labels {family.labels}")
    entry = (tuple(labels.values()), read)
    family.readers.append(entry)
    try:
        yield
    finally:
        family.readers.remove(entry)
        if not family.readers:
            del _watched.families[name]


@contextlib.contextmanager
def watch_durations(name: str, documentation: str, durations: Durations, /, **labels: str) -> Generator[None]:
    """Publish ``durations`` as a histogram as long as the block runs.

    All of one name have the same bounds. Raises ValueError if the name is watched with other label names.
    """
    names = tuple(labels)
    timed = _watched.durations.get(name)
    if timed is None:
        timed = _watched.durations[name] = _Timed(documentation, names)
    elif timed.labels != names:
        raise ValueError(f"metric {name!r} is already watched with labels {timed.labels}")
    entry = (tuple(labels.values()), durations)
    timed.parts.append(entry)
    try:
        yield
    finally:
        timed.parts.remove(entry)
        if not timed.parts:
            del _watched.durations[name]


class Publisher(contextlib.ExitStack):
    """Publishes many values as long as its block runs: `watch` and `watch_durations`, without the blocks."""

    def gauge(self, name: str, documentation: str, read: Callable[[], float], /, **labels: str) -> None:
        """Publish what ``read`` returns as a gauge."""
        self.enter_context(watch(name, documentation, read, kind="gauge", **labels))

    def counter(self, name: str, documentation: str, read: Callable[[], float], /, **labels: str) -> None:
        """Publish what ``read`` returns as a counter; ``name`` without ``_total``."""
        self.enter_context(watch(name, documentation, read, kind="counter", **labels))

    def counts(
        self, name: str, documentation: str, counts: Mapping[K, float], label: str, /, **labels: str
    ) -> None:
        """Publish a counter for each key that ``counts`` has now, under ``label``."""
        for key in counts:
            shown = key.name.lower() if isinstance(key, Enum) else str(key)
            self.counter(name, documentation, partial(counts.__getitem__, key), **{label: shown}, **labels)

    def durations(self, name: str, documentation: str, durations: Durations, /, **labels: str) -> None:
        """Publish a histogram."""
        self.enter_context(watch_durations(name, documentation, durations, **labels))


def render() -> bytes:
    """Return every metric of the process in Prometheus' text format."""
    return prometheus_client.generate_latest(REGISTRY)


@contextlib.contextmanager
def publish_process(name: str, drain: Drain, readiness: Readiness) -> Generator[None]:
    """Publish what the daemon ``name`` is made of: build information, tasks, drain state, readiness."""

    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    with (
        watch(
            "whook_build_info",
            "Versions of the running daemon; the value is always 1.",
            lambda: 1,
            daemon=name,
            version=version(),
            python=platform.python_version(),
            trio=metadata.version("trio"),
        ),
        watch("whook_tasks", "Trio tasks that exist.", tasks, daemon=name),
        watch("whook_draining", "1 once the daemon drains.", lambda: drain.begun, daemon=name),
        watch("whook_ready", "1 while the daemon should get traffic.", lambda: readiness.ready, daemon=name),
        watch(
            "whook_degraded",
            "Readiness checks that say: serving on, but something is missing.",
            lambda: readiness.degraded,
            daemon=name,
        ),
    ):
        yield


async def measure_loop_lag(interval: float = LAG_INTERVAL) -> None:
    """Measure for ever how late the event loop wakes a task that is due, every ``interval`` seconds."""
    lag = histogram(
        "whook_event_loop_lag_seconds",
        "How late the event loop ran a task that was due.",
        buckets=LAG_BUCKETS,
    )
    while True:
        due = trio.current_time() + interval
        await trio.sleep_until(due)
        lag.observe(trio.current_time() - due)


def version() -> str:
    """Return the version of the installed whook distribution."""
    try:
        return metadata.version("whook")
    except metadata.PackageNotFoundError:
        return "unknown"
