"""Where to ask for the next tunnel: the relay whose token is still good, or the server's API.

Owns that decision and nothing else: no clock of its own, no I/O. `session` asks it before each attempt and
tells it what became of that; the load clients of `bench` use it too, so that they do what clients do.

A tunnel token is good for one relay, and for an hour. A client that has only lost its connection needs
nothing from the API: the relay can check the token by itself, rights that were withdrawn since included. When
a relay with thousands of tunnels restarts, that is most of the work saved. The API is asked as soon as the
relay does not want the client, or is not there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum

from whook_cli.api import Grant

PATIENCE = 3
"""Times that a relay which refuses connections is tried again before the API is asked. With the backoff that
takes 2 s in the mean and less than 4: a process that restarts is back by then, and if it is not, its clients
do not ask for other relays all at once."""
LEAST = 60.0
"""Seconds that a token must still be good for: less is not worth a tunnel."""
BUSY = b":problem:busy"
"""In the body of a refusal: the relay has too many handshakes now, and will take this one later."""


class Failure(Enum):
    """Why there is no tunnel by a remembered grant."""

    REFUSED = "refused"  #: nobody listens there, or the connection broke: it may be restarting
    SILENT = "silent"  #: no answer in time: its machine or the network is gone
    BUSY = "busy"  #: it said when to come back
    UNWANTED = "unwanted"  #: it is there and does not take this token, or no more tunnels


def failure_of(status: int, body: bytes) -> Failure:
    """Say what an HTTP answer to the WebSocket handshake means."""
    return Failure.BUSY if status == 503 and BUSY in body else Failure.UNWANTED


class WayBack:
    """What is remembered of the last tunnel of a session."""

    __slots__ = ("_api_first", "_grant", "_now", "_patience")

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._grant: Grant | None = None
        self._api_first = False
        self._patience = 0

    def granted(self, grant: Grant) -> None:
        """Take note of what the API has given."""
        self._grant = grant
        self._patience = 0

    def lost(self, *, told: bool) -> None:
        """Take note that the tunnel must be replaced; `told` if the relay itself asked for that."""
        self._api_first = told
        self._patience = 0 if told else PATIENCE

    def grant(self) -> Grant | None:
        """Return the grant to try at its relay now, or None if the API is to be asked first."""
        if self._grant is None or self._api_first:
            return None
        try:
            left = (datetime.fromisoformat(self._grant.expires_at) - self._now()).total_seconds()
        except (ValueError, TypeError):
            left = 0.0
        return self._grant if left > LEAST else None

    def failed(self, failure: Failure) -> bool:
        """Take note that the grant was of no use; return whether to ask the API in the same attempt.

        A relay that has just gone away may be back in a moment, so it is tried again before the API is
        troubled. One that is busy is waited for: the API would only send others there.
        """
        if failure is Failure.BUSY:
            return False
        if failure is Failure.REFUSED:
            self._patience -= 1
            return self._patience < 0
        self._grant = None
        return True

    def unanswered(self) -> None:
        """Take note that the API cannot give a tunnel now: the relay is worth another try."""
        self._api_first = False
