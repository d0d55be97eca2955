"""Errors that were contained, and the one that ends a daemon, on their way to an error tracker.

Speaks Sentry's protocol (develop.sentry.dev, "Envelopes"), which Sentry, Bugsink and GlitchTip take. Off
unless a DSN is set. sentry-sdk makes the events; what it would do beside that (threads, hooks into the
interpreter, local variables, requests and their bodies) is off, and its transport is an outbox in the
daemon's nursery (ADR 11). Must never raise, nor wait, where an error is taken.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import trio

from whook.chassis import contained
from whook.chassis.logs import get_logger, mask_all
from whook.chassis.settings import SettingsError
from whook.telemetry.outbox import Outbox, Posting, open_outbox

MAX_WAITING: Final = 100
"""Reports that wait for the tracker."""
PER_SECOND: Final = 1.0
AT_ONCE: Final = 30
"""Reports made in a second, and at once: making one costs milliseconds, and a storm of the same error tells
nothing new. Beyond it they are counted."""
MAX_TEXT: Final = 1_000
"""Characters of one text in a report."""
FLUSH_SECONDS: Final = 3.0
"""How long the end of a daemon waits for its last reports."""

_log = get_logger("whook.daemon.errors")


class ErrorReports:
    """Makes a report of each error and puts it into the outbox. `take` may be called in any thread."""

    def __init__(self, dsn: str, outbox: Outbox, *, service: str, release: str, environment: str) -> None:
        """Raise SettingsError for a DSN that is none, and where sentry-sdk is not installed."""
        try:
            import sentry_sdk
            from sentry_sdk.envelope import Envelope
            from sentry_sdk.transport import Transport
            from sentry_sdk.utils import BadDsn, event_from_exception
        except ImportError as error:
            fault = f"WHOOK_DAEMON_ERROR_DSN is set, but {error.name} is not installed: whook[sentry]"
            raise SettingsError([fault]) from None
        self._outbox = outbox
        self._token = trio.lowlevel.current_trio_token()
        self._service = service
        self._tokens, self._refilled = float(AT_ONCE), time.monotonic()
        self.left_out = 0

        put = self._put

        class IntoOutbox(Transport):
            """Hands envelopes to the outbox, which posts them in the daemon's nursery."""

            def capture_envelope(self, envelope: Envelope) -> None:
                assert self.parsed_dsn is not None
                auth = self.parsed_dsn.to_auth(f"whook/{release}")
                headers = {
                    "Content-Type": "application/x-sentry-envelope",
                    "Content-Encoding": "gzip",
                    "X-Sentry-Auth": auth.to_header(),
                }
                put(Posting(auth.get_api_url(), headers, gzip.compress(envelope.serialize(), 6)))

        try:
            self._client = sentry_sdk.Client(
                dsn,
                transport=IntoOutbox,
                release=release,
                environment=environment,
                server_name=None,
                default_integrations=False,
                auto_enabling_integrations=False,
                auto_session_tracking=False,
                send_client_reports=False,
                include_local_variables=False,
                max_request_body_size="never",
                max_breadcrumbs=0,
                max_value_length=MAX_TEXT,
                enable_backpressure_handling=False,
                shutdown_timeout=0,
                spotlight=False,
                before_send=_masked,
            )
        except BadDsn as error:
            raise SettingsError([f"WHOOK_DAEMON_ERROR_DSN: {error}"]) from None
        self._event_from_exception = event_from_exception

    def take(self, error: BaseException, what: str, tags: Mapping[str, str], *, level: str = "error") -> None:
        """Report one error; `what` says in which place it was contained."""
        if not self._may():
            self.left_out += 1
            return
        try:
            event, hint = self._event_from_exception(
                error,
                client_options=self._client.options,
                mechanism={"type": "whook", "handled": level != "fatal"},
            )
            made = cast("dict[str, Any]", event)
            made["level"] = level
            made["transaction"] = what
            made["tags"] = {"service": self._service, **tags}
            if self.left_out:
                made["extra"] = {"reports left out before": self.left_out}
                self.left_out = 0
            self._client.capture_event(event, hint)
        except Exception as failure:  # noqa: BLE001 - told, but nothing may fail because it was reported
            _log.warning("an error cannot be reported", error=f"{type(failure).__name__}: {failure}")

    def _may(self) -> bool:
        now = time.monotonic()
        self._tokens = min(AT_ONCE, self._tokens + (now - self._refilled) * PER_SECOND)
        self._refilled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _put(self, posting: Posting) -> None:
        if trio.lowlevel.in_trio_run():
            self._outbox.put(posting)
        else:  # logged in a worker thread
            self._token.run_sync_soon(self._outbox.put, posting)


def _masked(event: Any, _hint: object) -> Any:
    """Return the event without any secret of the settings."""
    return mask_all(event)


def _trouble(reason: str) -> None:
    _log.warning("errors cannot be reported", reason=reason)


@asynccontextmanager
async def open_error_reports(
    dsn: str, *, service: str, release: str, environment: str
) -> AsyncGenerator[ErrorReports | None]:
    """Report what is contained as long as the block runs, and what is left for three seconds more.

    None without a DSN. Raises SettingsError.
    """
    if not dsn:
        yield None
        return
    async with open_outbox(most=MAX_WAITING, trouble=_trouble) as outbox:
        # Not in the nursery: what is wrong with the settings must not come out as a group.
        reports = ErrorReports(dsn, outbox, service=service, release=release, environment=environment)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.run, name="error reports")
            contained.collect(reports)
            try:
                yield reports
            finally:
                contained.collect_no_more(reports)
                with trio.move_on_after(FLUSH_SECONDS, shield=True):
                    await trio.lowlevel.checkpoint()  # for what other threads have just handed over
                    await outbox.flush()
                nursery.cancel_scope.cancel(reason="all is reported")
