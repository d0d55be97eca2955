"""The history's recorder: outcomes become news, news become part of the history, what is old goes.

A consumer of the OutcomeRecorder, and four tasks of the service beside it. Nothing here is on the way of a
webhook: whatever is too slow or away costs memory up to a bound, and then news, which are counted.

    take ──pending──► feed ──────────────────────► store ──► history      prune, once for all conductors
                        └─ while that is behind ─► journal ─► catch up ─► history

Errors of one batch are contained here: news that cannot be stored must not end the conductor, least of all
each one that reads the same journal.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, NoReturn

import trio

from whook.backplane.ports import EncodedRecord, History, Journal, JournalFull, News, Unavailable
from whook.chassis import metrics
from whook.chassis.logs import get_logger
from whook_conductor.capture import CaptureLimits
from whook_conductor.news import news_of
from whook_conductor.outcomes import Outcome
from whook_conductor.retry import Retry
from whook_conductor.settings import ConductorSettings

MAX_PENDING: Final = 20_000
"""Outcomes held while the journal does not take any. Their bodies are bounded by `capture.MAX_HELD`."""
BATCH_COUNT: Final = 2_000
BATCH_BYTES: Final = 4_194_304
"""A batch for the journal ends with the news that reaches either."""
GATHER_SECONDS: Final = 0.5
"""Pause between two times that all that has gathered goes to the journal: large batches are what makes
recording cheap."""
PRUNE_SECONDS: Final = 60.0
"""Between two runs of the pruner, over all conductors."""
WARN_SECONDS: Final = 30.0
"""Between two warnings that the history or its journal is away."""
DIVERT_SECONDS: Final = 1.0
"""How long a batch waits for the one before it to be stored, before it goes to the journal instead."""

_log = get_logger("whook.conductor.history")


class HistoryRecorder:
    """Hands news on to the history, and keeps the history within its bounds."""

    def __init__(
        self,
        history: History,
        journal: Journal,
        settings: ConductorSettings,
        capture: CaptureLimits | None,
        waiting: Callable[[], Awaitable[Collection[str]]],
    ) -> None:
        """`capture` is None where nothing is recorded; `waiting` gives the projects with a backlog."""
        self._history = history
        self._journal = journal
        self._settings = settings
        self._capture = capture
        self._waiting = waiting
        self._pending: deque[tuple[News, int, int]] = deque()
        """Each with its size, roughly, and the bytes of bodies that are held for it."""
        self._wake = trio.Event()
        self._finishing = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._to_store, self._from_feed = trio.open_memory_channel[list[News]](1)
        self._behind = False
        """The history did not answer lately: batches go to the journal without asking it."""
        self._unstored = 0
        """Batches that would die with the process."""
        self._told = _Told()
        self.recorded = 0
        self.dropped = 0
        self.pruned = 0
        self.lag = 0.0
        self.events = 0
        self.bytes = 0

    def take(self, batch: Sequence[Outcome]) -> None:
        """Take outcomes: a consumer of the OutcomeRecorder."""
        if self._capture is None:
            return
        pending = self._pending
        for outcome in batch:
            news = news_of(outcome)
            if news is None or len(pending) >= MAX_PENDING:
                self.drop(outcome)
            else:
                pending.append((news, outcome.received + outcome.sent + 512, outcome.captured))
        if pending:
            self._wake.set()
            self._idle = trio.Event() if self._idle.is_set() else self._idle

    def drop(self, outcome: Outcome) -> None:
        """Give an outcome up."""
        if outcome.event is not None or outcome.news is not None:
            self.dropped += 1
        if self._capture is not None:
            self._capture.release(outcome)

    async def run(self) -> None:
        """Do all of it until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._feed, name="history feed")
            nursery.start_soon(self._store, name="history store")
            nursery.start_soon(self._catch_up, name="history journal")
            nursery.start_soon(self._prune, name="history pruner")

    async def finish(self, seconds: float) -> None:
        """Wait until all that was taken is where it outlives this process, but no longer than that."""
        self._finishing.set()
        with trio.move_on_after(seconds):
            while self._pending or self._unstored:
                await self._idle.wait()

    # -- on its way -----------------------------------------------------------------------------------------

    async def _feed(self) -> NoReturn:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._pending:
                records, captured = self._next_batch()
                await self._hand_on(records)
                for _ in records:
                    self._pending.popleft()
                if self._capture is not None:
                    self._capture.free += captured
                await trio.lowlevel.checkpoint()
            self._rest()
            with trio.move_on_after(GATHER_SECONDS):
                await self._finishing.wait()

    def _next_batch(self) -> tuple[list[News], int]:
        """Return what comes next, which stays pending, and the bytes of bodies that are held for it."""
        records: list[News] = []
        size = held = 0
        for news, bytes_of_it, captured in self._pending:
            records.append(news)
            size += bytes_of_it
            held += captured
            if len(records) >= BATCH_COUNT or size >= BATCH_BYTES:
                break
        return records, held

    async def _hand_on(self, records: list[News]) -> None:
        """Give a batch to be stored, or to the journal while that takes too long."""
        retry = Retry()
        given = False
        while not given:
            if not self._behind:
                with trio.move_on_after(DIVERT_SECONDS):
                    await self._to_store.send(records)
                    self._unstored += 1
                    given = True
            if not given and not (given := await self._put_aside(records)):
                await retry.pause()

    async def _put_aside(self, records: Sequence[News]) -> bool:
        """Put a batch into the journal; return whether that worked."""
        try:
            await self._journal.append(records)
        except (JournalFull, Unavailable) as error:
            self._told.warn("journal", error)
            return False
        if not self._journal.survives:
            self._unstored += 1
        return True

    def _rest(self) -> None:
        if not self._pending and not self._unstored:
            self._idle.set()

    # -- into the history ---------------------------------------------------------------------------------

    async def _store(self) -> None:
        async for records in self._from_feed:
            await self._record(records, journaled=False)
            self._unstored -= 1
            self._rest()

    async def _catch_up(self) -> NoReturn:
        """Store what is in the journal: our own batches, and those of others."""
        retry = Retry()
        while True:
            try:
                entries = await self._journal.read()
            except Unavailable as error:
                self._told.warn("journal", error)
                await retry.pause()
                continue
            retry.reset()
            if not entries:
                self._behind = False  # somebody has stored it all
                continue
            await self._record([record for entry in entries for record in entry.records], journaled=True)
            try:
                await self._journal.done([entry.key for entry in entries])
            except Unavailable as error:
                self._told.warn("journal", error)  # they will come again, which does no harm
            if not self._journal.survives:
                self._unstored -= len(entries)
                self._rest()

    async def _record(self, records: Sequence[News], *, journaled: bool) -> None:
        """Store news, however long it takes until the history answers, unless the journal takes them."""
        retry = Retry()
        stored = False
        while not stored:
            try:
                await self._history.record(records)
                stored = True
            except Unavailable as error:
                self._told.warn("history", error)
                self._behind = True
                if not journaled and await self._put_aside(records):
                    return
                await retry.pause()
            except Exception:  # noqa: BLE001 - see the module's docstring
                if len(records) == 1:
                    _log.exception("news of an event cannot be recorded", event_id=records[0].event_id)
                    self.dropped += 1
                    return
                # One of them is at fault, and not the others.
                for record in records:
                    await self._record([record], journaled=journaled)
                return
        self._behind = False
        self.recorded += len(records)
        first = records[0]
        self.lag = time.time() - (first.received_at if isinstance(first, EncodedRecord) else first.at)

    # -- and out again ------------------------------------------------------------------------------------

    async def _prune(self) -> NoReturn:
        settings = self._settings
        while True:
            try:
                if await self._history.claim_pruning(PRUNE_SECONDS):
                    now = time.time()
                    self.pruned += await self._history.prune(
                        before=now - settings.history_keep,
                        keep_bytes=settings.history_bytes,
                        dead_before=now - settings.dead_letter_keep,
                        waiting=await self._waiting(),
                    )
                size = await self._history.size()
                self.events, self.bytes = size.events, size.bytes
            except Unavailable as error:
                _log.warning("the history cannot be pruned now", error=str(error))
            await trio.sleep(PRUNE_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - spreading load

    def held(self) -> int:
        """Return the bytes of bodies that wait for the history."""
        return 0 if self._capture is None else self._capture.max_held - self._capture.free

    @contextmanager
    def published(self) -> Generator[None]:
        """Publish what was recorded and what was not, as long as the block runs."""
        capture = self._capture
        counters: list[tuple[str, str, Callable[[], float]]] = [
            ("whook_history_recorded", "News of events stored in the history.", lambda: self.recorded),
            ("whook_history_dropped", "News of events given up for want of room.", lambda: self.dropped),
            ("whook_history_pruned", "Events deleted from the history.", lambda: self.pruned),
            (
                "whook_history_bodies_left_out",
                "Bodies not kept because too many waited for the history.",
                lambda: 0 if capture is None else capture.uncaptured,
            ),
        ]
        gauges: list[tuple[str, str, Callable[[], float]]] = [
            ("whook_history_pending", "News that wait for the journal.", lambda: len(self._pending)),
            (
                "whook_history_lag_seconds",
                "Age of the oldest news in the last batch when it was stored.",
                lambda: self.lag,
            ),
            ("whook_history_events", "Events in the history, all conductors'.", lambda: self.events),
            ("whook_history_bytes", "Bytes that the history takes, roughly.", lambda: self.bytes),
        ]
        with ExitStack() as stack:
            for name, meaning, read in counters:
                stack.enter_context(metrics.watch(name, meaning, read, kind="counter"))
            for name, meaning, read in gauges:
                stack.enter_context(metrics.watch(name, meaning, read))
            yield


class _Told:
    """Warns about something that lasts now and then, not each time."""

    def __init__(self) -> None:
        self._next = 0.0

    def warn(self, waits_for: str, error: Exception) -> None:
        """Log it if nothing was logged lately."""
        if trio.current_time() >= self._next:
            self._next = trio.current_time() + WARN_SECONDS
            _log.warning(
                "the history is behind", waits_for=waits_for, error=str(error) or type(error).__name__
            )
