"""A bounded outbox: documents are put in synchronously, and one task posts them over HTTP, one by one.

Owns the connection to one collector of errors or traces. Whoever opens it decides where it runs and when it
ends. Must never wait in `put`, grow without bound, or raise for anything that a collector does.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    import httpx

ATTEMPTS: Final = 3
"""Times that a document is posted before it is given up."""
PAUSE: Final = 2.0
"""Seconds between two attempts, if the collector names no other time."""
LONGEST_PAUSE: Final = 300.0
"""Seconds for which a collector can ask to be left alone (RFC 9110 section 10.2.3)."""
TIMEOUT: Final = 10.0
"""Seconds for one attempt."""

_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Posting:
    """One document, and where it goes."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Outbox:
    """What waits to be posted. After `run` has ended, `put` still takes documents, and nothing sends them."""

    def __init__(self, client: httpx.AsyncClient, *, most: int, trouble: Callable[[str], None]) -> None:
        """`most` documents wait at the same time; `trouble` is told, once for each outage, what is wrong."""
        self._client = client
        self._most = most
        self._trouble = trouble
        self._troubled = False
        self._waiting: deque[Posting] = deque()
        self._wake = trio.Event()
        self._empty = trio.Event()
        self._empty.set()
        self.dropped = 0
        self.posted = 0

    def put(self, posting: Posting) -> None:
        """Take a document; beyond the bound it is counted in `dropped` instead."""
        if len(self._waiting) >= self._most:
            self.dropped += 1
            return
        self._waiting.append(posting)
        self._wake.set()
        if self._empty.is_set():
            self._empty = trio.Event()

    async def flush(self) -> None:
        """Wait until nothing waits any more; the caller bounds it."""
        await self._empty.wait()

    async def run(self) -> None:
        """Post what comes, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._waiting:
                if await self._post(self._waiting[0]):
                    self.posted += 1
                else:
                    self.dropped += 1
                self._waiting.popleft()
            self._empty.set()

    async def _post(self, posting: Posting) -> bool:
        import httpx

        for attempt in range(ATTEMPTS):
            pause = PAUSE
            try:
                with trio.fail_after(TIMEOUT):
                    answer = await self._client.post(
                        posting.url, content=posting.body, headers=dict(posting.headers)
                    )
            except (httpx.HTTPError, httpx.InvalidURL, OSError, trio.TooSlowError) as error:
                self._tell(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
            else:
                if answer.is_success:
                    self._troubled = False
                    return True
                self._tell(f"status {answer.status_code}")
                if answer.status_code not in _TRY_AGAIN:
                    return False
                with contextlib.suppress(ValueError):
                    pause = min(float(answer.headers.get("retry-after", PAUSE)), LONGEST_PAUSE)
            if attempt + 1 < ATTEMPTS:
                await trio.sleep(pause)
        return False

    def _tell(self, reason: str) -> None:
        if not self._troubled:
            self._troubled = True
            self._trouble(reason)


@asynccontextmanager
async def open_outbox(*, most: int, trouble: Callable[[str], None]) -> AsyncGenerator[Outbox]:
    """Give an outbox whose connections are closed at the end; run it inside the block."""
    import httpx  # takes long, and nearly no client needs it

    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT, trust_env=False) as client:
        yield Outbox(client, most=most, trouble=trouble)
