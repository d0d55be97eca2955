"""Runs a daemon with its error reports and its traces around it, where they are configured.

`daemon` calls it once. They begin before everything else and end after it, because they tell about it; what a
daemon raises comes out as it was raised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from whook.chassis import contained, metrics
from whook.chassis.error_reports import open_error_reports
from whook.chassis.logs import get_logger
from whook.chassis.settings import DaemonSettings, SettingsError
from whook.telemetry.tracing import Tracer, TracingUnavailable, open_tracer, trace_target

_log = get_logger("whook.daemon")


async def with_telemetry(
    service: str, settings: DaemonSettings, run: Callable[[Tracer | None], Awaitable[int]]
) -> int:
    """Await `run` and return what it returns. Raises what it raises, and SettingsError."""
    dsn = settings.error_dsn.get_secret_value()
    try:
        target = trace_target()
    except TracingUnavailable as error:
        raise SettingsError([str(error)]) from None
    if not dsn and target is None:
        return await run(None)
    status, failure = 0, None
    version = metrics.version()
    async with AsyncExitStack() as stack:
        reports = await stack.enter_async_context(
            open_error_reports(
                dsn, service=service, release=f"whook@{version}", environment=settings.error_environment
            )
        )
        tracer = await stack.enter_async_context(open_tracer(target, service, version, trouble=_no_traces))
        try:
            status = await run(tracer)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - raised again below
            failure = error
            if reports is not None and isinstance(error, Exception):
                reports.take(error, "the daemon ended", contained.notes(error), level="fatal")
    if failure is not None:
        # Out here it is not wrapped into the groups of the nurseries.
        raise failure
    return status


def _no_traces(reason: str) -> None:
    _log.warning("traces cannot be exported", reason=reason)
