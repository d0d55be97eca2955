"""The public keys of auth, as a relay follows them: fetched often, kept while auth is away.

The composition root of a relay runs it and gives the relay its Verifier. A rotation goes unnoticed: a key is
published ten minutes before it signs, and fetched every minute or when a token names one that is not known.
"""

from __future__ import annotations

import random
from typing import Any, Final

import msgspec
import trio

from whook.backplane.auth_http.connection import AuthConnection
from whook.backplane.ports import Unavailable
from whook.backplane.ports import auth_messages as messages
from whook.chassis.logs import get_logger
from whook.chassis.tunnel_token import Verifier

REFRESH: Final = 60.0
"""Seconds between two fetches."""
RETRY: Final = 2.0
"""Seconds to the next one while no key is known at all."""
UNKNOWN: Final = 5.0
"""Seconds in which at most one fetch is made for keys that tokens name and nobody knows: strangers can name
any number of them."""

_log = get_logger("whook.keys")


class PublishedKeys:
    """Keeps a Verifier up to date."""

    def __init__(self, connection: AuthConnection) -> None:
        self._connection = connection
        self._lock = trio.Lock()
        self._fetched = -float("inf")
        self.verifier = Verifier({"keys": []})
        """Give this to the relay."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch the keys for ever; started after the first attempt, whatever became of it."""
        while True:
            async with self._lock:
                await self._fetch()
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            pause = REFRESH if self.verifier.key_ids else RETRY
            await trio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load, keeps no secret

    async def refresh(self) -> None:
        """Fetch the keys for a token that names an unknown one, unless that was just done."""
        async with self._lock:
            pause = UNKNOWN if self.verifier.key_ids else RETRY / 10
            if trio.current_time() - self._fetched >= pause:
                await self._fetch()

    def check(self) -> str | None:
        """Tell what is missing for readiness."""
        return None if self.verifier.key_ids else "no keys from the auth service"

    async def _fetch(self) -> None:
        self._fetched = trio.current_time()
        try:
            found = msgspec.json.decode(await self._connection.get(messages.JWKS), type=dict[str, Any])
            keys = Verifier(found)
        except (Unavailable, msgspec.MsgspecError, TypeError, ValueError) as error:
            _log.warning(
                "keys not fetched; those known stay", known=len(self.verifier.key_ids), error=str(error)
            )
            return
        if keys.key_ids:
            self.verifier.update(found)
        else:
            _log.warning("the auth service publishes no key; those known stay")
