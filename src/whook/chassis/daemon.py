"""Runs a daemon: signals, drain, admin endpoints and the supervisor's notifications around a service's body.

The composition root calls run_daemon once per process. It knows nothing about the services, and it must
always end: after the drain's deadline nothing may keep the process alive.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import structlog
import trio

from whook.chassis import metrics, sdnotify
from whook.chassis.admin import LIMITS, admin_app
from whook.chassis.asgi import serve_asgi
from whook.chassis.drain import Drain
from whook.chassis.listen import bound_address, open_listeners
from whook.chassis.logs import get_logger
from whook.chassis.readiness import Readiness
from whook.chassis.settings import DaemonSettings
from whook.chassis.telemetry import with_telemetry
from whook.telemetry.tracing import Tracer

LAST_RESORT = 5.0
"""Seconds that cancelled work has to end. A worker thread or a shield that takes longer ends with the
process."""
EXIT_STUCK = 70
"""Exit status of a process that had to be ended by force (EX_SOFTWARE of sysexits.h)."""

YOUNG_OBJECTS = 20_000
"""Objects made, and not freed, until the collector looks at them: 1 to 2 ms of work. CPython's default is
700, or 2,000 from version 3.13 on."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_log = get_logger("whook.daemon")


class Daemon:
    """What the body of a daemon is given."""

    __slots__ = ("_alone", "_starting", "admin_address", "drain", "name", "readiness", "tracer")

    def __init__(self, name: str, drain: Drain, *, alone: bool = False, tracer: Tracer | None = None) -> None:
        self.name = name
        self.tracer = tracer
        """Takes spans; None where traces are off."""
        self._alone = alone
        self.drain = drain
        """Watch it: when it begins, finish."""
        self.readiness = Readiness(drain)
        """Register checks here."""
        self.admin_address = ""
        """Where the admin endpoints listen (``host:port``); empty if they do not."""
        self._starting = True

    def started(self, status: str = "") -> None:
        """Report that the daemon serves; until then it is not ready.

        ``status`` is a line for the supervisor.
        """
        if self._starting:
            self._starting = False
            if self._alone:
                tune_collector()
            sdnotify.notify(sdnotify.READY, f"STATUS={status or 'serving'}")
            _log.info("started", admin=self.admin_address or None)

    def starting(self) -> str | None:
        """Return the readiness check that fails until started was called."""
        return "starting" if self._starting else None


def tune_collector() -> None:
    """Have the garbage collector look at what a daemon has made since its start, and less often.

    What was made until now (modules, classes, settings) stays for ever, so it is taken out of its sight; and
    most of what a daemon makes is freed by reference counts. A tunnel costs a relay 16 % less CPU by it, and
    as much memory (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)


Body = Callable[[Daemon], Awaitable[int | None]]


async def run_daemon(
    name: str,
    body: Body,
    *,
    settings: DaemonSettings,
    admin_option: str = "WHOOK_DAEMON_ADMIN",
    alone: bool = False,
    task_status: trio.TaskStatus[Daemon] = trio.TASK_STATUS_IGNORED,
) -> int:
    """Run ``body(daemon)`` with all that surrounds it, and return the exit status once it has ended.

    The first SIGTERM or SIGINT begins the drain; the body is to finish and return. At the drain's deadline,
    or at the second signal, it is cancelled. Signals, admin endpoints and notifications live until the body
    has ended.

    Returns what the body returns (None counts as 0), or 128 and the signal's number if the second signal
    ended it. What the body raises is raised as it is; a failing service brings the body down and surfaces
    as an exception group. Raises ListenError if the admin address cannot be used, which names
    ``admin_option`` as the mend. Must run in the main thread. ``alone`` says that the process is this daemon
    and nothing else, so that its garbage collector may be tuned.

    Error reports and traces, where they are configured, outlive the body by a few seconds at most. Raises
    SettingsError if they are configured and cannot be had.
    """

    async def run(tracer: Tracer | None) -> int:
        drain = Drain(settings.drain_seconds)
        daemon = Daemon(name, drain, alone=alone, tracer=tracer)
        return await _run(daemon, body, settings, admin_option, task_status)

    return await with_telemetry(name, settings, run)


async def _run(
    daemon: Daemon,
    body: Body,
    settings: DaemonSettings,
    admin_option: str,
    task_status: trio.TaskStatus[Daemon],
) -> int:
    name, drain = daemon.name, daemon.drain
    scope = trio.CancelScope()
    stop = _Stop(scope, drain)
    listeners = (
        await open_listeners(settings.admin, what="the admin endpoints", option=admin_option)
        if settings.admin
        else []
    )
    status: int | None = None
    failure: Exception | SystemExit | None = None
    try:
        with (
            structlog.contextvars.bound_contextvars(daemon=name),
            trio.open_signal_receiver(*_SIGNALS) as signals,
            metrics.publish_process(name, drain, daemon.readiness),
            daemon.readiness.check("started", daemon.starting),
        ):
            async with trio.open_nursery() as services:
                services.start_soon(stop.on_signals, signals)
                services.start_soon(stop.on_drain)
                services.start_soon(metrics.measure_loop_lag)
                services.start_soon(_feed_watchdog)
                if listeners:
                    # A drain of its own, which never begins: probes must get answers until the end.
                    serve = partial(serve_asgi, name="admin", drain=Drain(), limits=LIMITS)
                    await services.start(serve, admin_app(daemon.readiness), listeners)
                    daemon.admin_address = bound_address(listeners)
                task_status.started(daemon)
                try:
                    with scope:
                        status = await body(daemon)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again below
                    failure = error
                services.cancel_scope.cancel(reason="the body has ended")
    finally:
        stop.last_resort.disarm()
        for listener in listeners:
            listener.socket.close()
        if failure is not None:
            # Out here it is not wrapped into the services' group, and their errors become its context.
            raise failure
    if scope.cancelled_caught:
        _log.warning("stopped before everything was finished", reason=stop.reason or "drain deadline")
        return 128 + stop.signal if stop.signal else 0
    return status or 0


class _Stop:
    """Brings the body to its end: first by the drain, then by cancelling it, at last by force."""

    def __init__(self, scope: trio.CancelScope, drain: Drain) -> None:
        self.signal = 0
        self.reason = ""
        self.last_resort = _LastResort()
        self._scope = scope
        self._drain = drain

    async def on_signals(self, signals: AsyncIterator[int]) -> None:
        first = True
        async for number in signals:
            name = signal.Signals(number).name
            if first:
                first = False
                self._drain.begin(name)
            elif not self.signal:
                self.signal = number
                self.reason = f"second signal: {name}"
                self.last_resort.arm(LAST_RESORT)
                self._scope.cancel(reason=self.reason)

    async def on_drain(self) -> None:
        await self._drain.wait()
        left = self._drain.deadline - trio.current_time()
        if not self.signal:
            self.last_resort.arm(left + LAST_RESORT)
        self._scope.deadline = self._drain.deadline
        sdnotify.notify(
            sdnotify.STOPPING,
            f"STATUS=draining: {self._drain.reason}",
            f"EXTEND_TIMEOUT_USEC={int((left + LAST_RESORT) * 1e6)}",
        )
        _log.info("draining", reason=self._drain.reason, seconds=round(left, 1))


class _LastResort:
    """Ends the process from a thread.

    The event loop cannot: work in threads and shields is not cancelled.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def arm(self, seconds: float) -> None:
        self.disarm()
        self._timer = threading.Timer(seconds, _end_by_force)
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _end_by_force() -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write("whook: still running after the drain deadline, ending by force; the stacks:\n")
        faulthandler.dump_traceback(all_threads=True)
    os._exit(EXIT_STUCK)


async def _feed_watchdog() -> None:
    """Tell the supervisor that the event loop runs, if it wants to know."""
    interval = sdnotify.watchdog_seconds()
    if interval is None:
        return
    while True:
        sdnotify.notify(sdnotify.WATCHDOG)
        await trio.sleep(interval)
