"""Storing a webhook that cannot be delivered now, durably, before it is acknowledged.

Called by `storing`, for one request at a time, and by nothing else. It must never say that an event is stored
before the queue has said so: in doubt it is not, and the sender sends it again.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final, get_args

import structlog
import trio

from whook.backplane.ports import (
    TOPIC_BACKLOG,
    BacklogState,
    Blobs,
    Bus,
    Limit,
    Queue,
    QueueFull,
    StoredEvent,
    Unavailable,
    encode_event,
)
from whook.chassis import metrics
from whook_conductor.answers import QUEUE_UNAVAILABLE, Answer, queue_full
from whook_conductor.backlogs import BacklogTable
from whook_conductor.policies import Rules
from whook_conductor.settings import ConductorSettings
from whook_conductor.upload import Budget

MAX_INLINE: Final = 262_144
"""Bytes of the longest body that is stored in the queue itself; a longer one goes to the blob place."""

_log = structlog.get_logger("whook.conductor.buffering")


class Buffering:
    """The way into the queue."""

    def __init__(
        self, queue: Queue, blobs: Blobs, bus: Bus, backlogs: BacklogTable, settings: ConductorSettings
    ) -> None:
        self.queue = queue
        self._blobs = blobs
        self._bus = bus
        self._backlogs = backlogs
        self._total_count = settings.max_buffered_count
        self._total_bytes = settings.max_buffered_bytes
        self._timeout = settings.queue_timeout
        self.max_body = settings.max_buffered_body
        self.budget = Budget(settings.max_kept_bodies)
        """Out of which bodies are kept that are streamed and may have to be stored."""
        self.stored = 0
        self.refused: dict[str, int] = dict.fromkeys((*get_args(Limit), "unavailable"), 0)

    async def store(self, event: StoredEvent, body: bytes, rules: Rules, *, attempts: int) -> Answer | None:
        """Store `event`, whose `body` is given apart; None once it is durable, else what to answer instead.

        `attempts` is how often its delivery has been tried.
        """
        try:
            with trio.fail_after(self._timeout):
                await self._append(event, body, rules, attempts)
        except QueueFull as full:
            self.refused[full.limit] += 1
            return queue_full(full.limit)
        except (Unavailable, trio.TooSlowError) as error:
            self.refused["unavailable"] += 1
            _log.warning("a webhook cannot be stored", event_id=event.id, error=str(error) or "too slow")
            return QUEUE_UNAVAILABLE
        self.stored += 1
        return None

    async def _append(self, event: StoredEvent, body: bytes, rules: Rules, attempts: int) -> None:
        apart = event.body is None
        if apart:
            await self._blobs.put(event.id, body)
        limits = rules.limits(total_count=self._total_count, total_bytes=self._total_bytes)
        full: QueueFull | None = None
        try:
            await self.queue.append(event, limits, attempts=attempts)
        except QueueFull as error:
            full = error
        if full is not None:
            if apart:  # certainly not stored, so nothing refers to it
                await self._blobs.delete([event.id])
            raise full
        if self._backlogs.appended(event.project_id):
            holding = BacklogState(event.project_id, "holding")
            try:
                await self._bus.publish(TOPIC_BACKLOG, encode_event(holding))
            except Unavailable:
                return  # what is not repeated is forgotten

    @contextmanager
    def published(self) -> Generator[None]:
        """Publish what was stored and what was not, as long as the block runs."""
        meaning = "Webhooks that could neither be delivered nor be stored, by the limit that was reached."
        with ExitStack() as stack:
            stack.enter_context(
                metrics.watch(
                    "whook_buffered",
                    "Webhooks that were stored and acknowledged.",
                    lambda: self.stored,
                    kind="counter",
                )
            )
            for reason in self.refused:
                count = partial(self.refused.__getitem__, reason)
                stack.enter_context(
                    metrics.watch("whook_buffer_refused", meaning, count, kind="counter", reason=reason)
                )
            stack.enter_context(
                metrics.watch(
                    "whook_backlogs", "Projects with webhooks waiting.", lambda: len(self._backlogs)
                )
            )
            yield
