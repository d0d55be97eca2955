"""A database that is awaited: a daemon that starts before PostgreSQL does waits for it instead of ending.

Called by the composition roots of auth and conductor, never for `migrate`, which fails fast. Waits as long
as the database is away, and says so: the daemon is unready, the log names the reason, the supervisor is asked
for more time. Only a signal ends the waiting, and then `StoppedWaiting` ends the daemon in good order.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from whook.backplane.compose.command import StoppedWaiting
from whook.backplane.ports import Unavailable
from whook.backplane.sql import Database, Schema, open_database
from whook.chassis import sdnotify
from whook.chassis.daemon import Daemon
from whook.chassis.logs import get_logger

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 15.0
_MORE_TIME: Final = 60
"""Seconds that the supervisor is asked for at each attempt: longer than it and the pause after it."""

_log = get_logger("whook.compose")


@asynccontextmanager
async def open_awaited_database(url: str, schema: Schema, daemon: Daemon) -> AsyncGenerator[Database, None]:
    """Open a database as `open_database` does, but wait while it cannot be reached.

    A SQLite file is not awaited: nobody else will make it usable. Raises what that does, and StoppedWaiting.
    """
    async with AsyncExitStack() as stack:
        yield await _await(url, schema, daemon, stack)


async def _await(url: str, schema: Schema, daemon: Daemon, stack: AsyncExitStack) -> Database:
    reason = ""
    pause = FIRST_PAUSE
    with daemon.readiness.check("database", lambda: reason or None):
        while True:
            try:
                database = await stack.enter_async_context(open_database(url, schema))
            except Unavailable as error:
                if url.startswith("sqlite"):
                    raise
                if str(error) != reason:  # once, not at every attempt
                    _log.warning("waiting for the database", database=schema.name, error=str(error))
                reason = str(error) or "the database does not answer"
            else:
                if reason:
                    _log.info("the database is there", database=schema.name)
                return database
            sdnotify.notify(
                f"STATUS=waiting for the {schema.name} database",
                f"EXTEND_TIMEOUT_USEC={_MORE_TIME * 1_000_000}",
            )
            with trio.move_on_after(random.uniform(0.5, 1.0) * pause):  # noqa: S311 - spreads load
                await daemon.drain.wait()
            if daemon.drain.begun:
                raise StoppedWaiting
            pause = min(2 * pause, LONGEST_PAUSE)
