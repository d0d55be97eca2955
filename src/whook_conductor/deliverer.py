"""The backlog of one project being worked off by its owner: order, window, retries, dead letters, settling.

Run by the `dispatcher` in a task of its own, inside the scope that ends before the ownership can have ended.
It must never settle an event that was neither answered nor recorded as dead, and never begin a delivery that
`may_begin` forbids.

Order: each event gets a number when it is first read, and what was given back keeps it, so that it comes
before whatever was read after it. Under `skip` an event that failed loses its number: it comes when it is
due. Under `block` it keeps it, and nothing behind it begins before.
"""

from __future__ import annotations

import heapq
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

import structlog
import trio

from whook.backplane.ports import (
    BacklogState,
    History,
    NotOwner,
    Ownership,
    ProjectPolicy,
    Queue,
    Queued,
    Unavailable,
)
from whook_conductor.deliveries import Courier, Result, dead_record
from whook_conductor.outcomes import Outcome
from whook_conductor.policies import Policies
from whook_conductor.retry import Retry
from whook_conductor.routes import RouteTable
from whook_conductor.upload import Budget

MAX_PREFETCH: Final = 64
"""Events read ahead of their delivery."""
MAX_PREFETCH_BYTES: Final = 4_194_304
SETTLE_INTERVAL: Final = 0.1
"""Seconds for which answered events gather before they are settled together."""
SETTLE_BATCH: Final = 64
POLL: Final = 2.0
"""Seconds after which an empty backlog is looked at again, whatever the bus did not tell."""
_SLACK: Final = 0.005
"""Seconds by which clocks may differ that are read one after the other."""
LINGER: Final = 5.0
"""Seconds after which an owner that has nothing to do gives its ownership up."""

_log = structlog.get_logger("whook.conductor.deliverer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all deliverers of a conductor share."""

    queue: Queue
    history: History
    courier: Courier
    table: RouteTable
    policies: Policies
    memory: Budget
    totals: dict[str, int]
    """Deliveries by what became of them."""
    may_begin: Callable[[], bool]
    """Whether this conductor is certain to be the owner still."""
    tell: Callable[[BacklogState], Awaitable[None]]
    """Tells everybody how it stands with a backlog."""


class Deliverer:
    """Works off one backlog. `poke` says that something has changed; `finish` that it is to end soon."""

    def __init__(self, ownership: Ownership, tools: Tools) -> None:
        self._ownership = ownership
        self._project_id = ownership.project_id
        self._tools = tools
        self._news = trio.Event()
        self._hand: list[tuple[int, Queued]] = []
        self._numbers: dict[str, int] = {}
        self._next_number = 0
        self._given_back: set[str] = set()
        """Positions that must be read again before anything behind them begins."""
        self._held_until = 0.0
        """Nothing begins before, in Trio's time."""
        self._read_at = 0.0
        """When to look into the queue again, in Trio's time."""
        self._prefetch = 1
        self._running = 0
        self._answered: list[str] = []
        self._settling = trio.Event()
        self._left = 0
        """Events that wait, those in hand included, as far as we know."""
        self._deferred = False
        self._empty = False
        """Nothing was due when we last looked, and nobody has told of anything since."""
        self._told: tuple[str, float] = ("holding", -math.inf)
        self._finishing = False
        self._lost = False
        self._retry = Retry()

    # -- from outside ----------------------------------------------------------------------------------

    def poke(self) -> None:
        """Look again: something was appended, or a route has come."""
        self._read_at = 0.0
        self._empty = False
        self._news.set()

    def finish(self) -> None:
        """Begin nothing more; what runs may end."""
        self._finishing = True
        self._news.set()

    async def run(self) -> None:
        """Deliver until there is nothing more to do, the ownership is lost, or `finish` was called."""
        self._left = (await self._tools.queue.backlog(self._project_id)).count
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._settle_for_ever, name="settle")
                await self._work(nursery)
                while self._running and not self._lost:
                    await self._wait(POLL)
                nursery.cancel_scope.cancel(reason="the deliverer is done")
        finally:
            self._tools.memory.give(sum(_weight(entry) for _, entry in self._hand))
        if not self._lost:
            await self._settle()
            await self._tools.queue.release(self._ownership)

    # -- what begins when ------------------------------------------------------------------------------

    async def _work(self, nursery: trio.Nursery) -> None:
        idle_since = trio.current_time()
        while not self._finishing and not self._lost:
            self._news = trio.Event()
            try:
                entry = await self._next()
            except NotOwner:
                self._lost = True
                return
            except Unavailable as error:
                _log.warning("the queue does not answer", project_id=self._project_id, error=str(error))
                await self._retry.pause()
                continue
            now = trio.current_time()
            if entry is not None:
                idle_since = now
                self._running += 1
                nursery.start_soon(self._deliver, entry, name=f"delivery {entry.event.id}")
                continue
            if self._running or (self._deferred and self._has_route()):
                idle_since = now
            elif now - idle_since > LINGER:
                return
            await self._tell_rest()
            await self._wait(self._pause(now))

    async def _tell_rest(self) -> None:
        """Say again and again that only failed events wait, if that is so."""
        busy = self._running or self._hand or self._given_back or not self._has_route()
        if self._empty and self._deferred and not busy:
            await self._tell("resting")

    async def _tell(self, state: Literal["holding", "ending", "resting"]) -> None:
        """Tell everybody, but the same not more often than is needed."""
        now = trio.current_time()
        last, at = self._told
        if state != last or (state != "holding" and now - at > POLL / 2):
            self._told = (state, now)
            await self._tools.tell(BacklogState(self._project_id, state))

    def _pause(self, now: float) -> float:
        """Return how long there is certainly nothing to do, unless something is told."""
        if not self._has_route():
            return POLL
        until = self._held_until
        if until <= now:
            until = now + POLL if self._running else self._read_at
        return min(max(until - now, 0.01), POLL)

    async def _wait(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._news.wait()
        self._news = trio.Event()

    def _has_route(self) -> bool:
        return self._tools.table.of(self._project_id) is not None

    async def _next(self) -> Queued | None:
        """Return the event to be delivered next, or None when none can begin now."""
        policy = self._policy
        if not self._has_route() or self._running >= policy.window:
            return None
        if trio.current_time() < self._held_until:
            return None
        if not await self._tools.courier.reachable(self._project_id, POLL):
            return None
        while self._given_back and len(self._hand) <= 2 * MAX_PREFETCH:
            if not await self._read(len(self._given_back), policy):
                return None  # not due yet
        if not self._hand and trio.current_time() >= self._read_at:
            await self._read(self._prefetch, policy)
            self._prefetch = min(MAX_PREFETCH, 2 * self._prefetch)
        if not self._hand or self._given_back or self._finishing:
            return None
        _, entry = heapq.heappop(self._hand)
        return entry

    async def _read(self, limit: int, policy: ProjectPolicy) -> bool:
        """Read into the hand; return whether anything came."""
        memory = self._tools.memory
        room = min(MAX_PREFETCH_BYTES, memory.free)
        if room <= 0:
            limit, room = 1, 1  # one at a time, whatever the others hold
        in_order = policy.head_of_line == "block"
        batch = await self._tools.queue.read(self._ownership, limit=limit, max_bytes=room, in_order=in_order)
        self._retry.reset()
        for entry in batch.entries:
            self._given_back.discard(entry.position)
            number = self._numbers.get(entry.position)
            if number is None:
                number = self._numbers[entry.position] = self._next_number
                self._next_number += 1
            heapq.heappush(self._hand, (number, entry))
            memory.free -= _weight(entry)
        self._deferred = batch.next_due is not None
        if batch.entries:
            size = sum(_weight(entry) for entry in batch.entries)
            all_of_it = len(batch.entries) < limit and size < room and not self._deferred
            await self._tell("ending" if all_of_it else "holding")
            return True
        due = POLL if batch.next_due is None else max(0.0, batch.next_due - time.time())
        self._read_at = trio.current_time() + min(due, POLL)
        self._empty = True
        return False

    @property
    def _policy(self) -> ProjectPolicy:
        return self._tools.policies.of(self._project_id).policy

    # -- one delivery ----------------------------------------------------------------------------------

    async def _deliver(self, entry: Queued) -> None:
        """Deliver and conclude. Everything that goes wrong with one event is contained here."""
        try:
            try:
                remaining = max(0, self._left - 1)
                result = await self._tools.courier.deliver(
                    entry, remaining=remaining, may_begin=self._tools.may_begin
                )
                await self._conclude(entry, result)
            except NotOwner:
                self._lost = True
            except Unavailable as error:
                _log.warning("a delivery cannot be concluded", event_id=entry.event.id, error=str(error))
                await self._give_back(entry)
            except Exception:  # noqa: BLE001 the containment wrapper of one delivery
                _log.exception("a delivery failed inside the conductor", event_id=entry.event.id)
                self._tools.totals["defect"] += 1
                await self._fail(entry, None)
        finally:
            self._tools.memory.give(_weight(entry))
            self._running -= 1
            self._news.set()
            if self._answered and not self._hand:
                self._settling.set()  # others may be waiting for the end of this backlog

    async def _conclude(self, entry: Queued, result: Result) -> None:
        policy, verdict = self._policy, result.verdict
        failures = entry.failures + 1
        if verdict == "failed" and failures >= policy.max_attempts:
            verdict = "hopeless"
        self._tools.totals[verdict] += 1
        if verdict == "broken-off":
            await self._give_back(entry)
        elif verdict == "failed":
            await self._fail(entry, result.retry_after)
        elif verdict == "answered":
            self._settle_soon(entry)
        else:
            try:
                await self._bury(entry, result.outcome)
            except Unavailable as error:
                _log.warning("a dead webhook cannot be recorded", event_id=entry.event.id, error=str(error))
                await self._fail(entry, result.retry_after)
            else:
                self._settle_soon(entry)

    async def _fail(self, entry: Queued, retry_after: float | None) -> None:
        """Have the event tried again later, and count it."""
        policy = self._policy
        pause = _backoff(entry.failures + 1, policy, retry_after)
        await self._defer(entry, pause, failed=True, keep_place=policy.head_of_line == "block")

    async def _bury(self, entry: Queued, outcome: Outcome) -> None:
        """Record the event as dead: durable before it leaves the queue. Raises Unavailable."""
        await self._tools.history.record([dead_record(entry, outcome)])
        _log.warning(
            "a webhook is dead",
            event_id=entry.event.id,
            project=entry.event.project,
            attempts=entry.attempt,
            status=outcome.status,
            problem=outcome.slug,
        )

    async def _give_back(self, entry: Queued) -> None:
        """Give an event back that was not really tried. It keeps its place."""
        self._prefetch = 1
        await self._defer(entry, random.uniform(0.05, 0.5), failed=False, keep_place=True)  # noqa: S311

    async def _defer(self, entry: Queued, pause: float, *, failed: bool, keep_place: bool) -> None:
        if keep_place:
            self._given_back.add(entry.position)
        else:
            self._numbers.pop(entry.position, None)
            self._deferred = True
        while not self._lost:
            until = time.time() + pause
            if keep_place:
                self._held_until = max(self._held_until, trio.current_time() + pause + _SLACK)
            try:
                await self._tools.queue.defer(self._ownership, entry.position, until=until, failed=failed)
            except NotOwner:
                self._lost = True
            except Unavailable:
                await self._retry.pause()
            else:
                return

    # -- settling --------------------------------------------------------------------------------------

    def _settle_soon(self, entry: Queued) -> None:
        self._numbers.pop(entry.position, None)
        self._left = max(0, self._left - 1)
        self._answered.append(entry.position)
        self._settling.set()

    async def _settle_for_ever(self) -> None:
        while not self._lost:
            await self._settling.wait()
            self._settling = trio.Event()
            await self._settle()
            with trio.move_on_after(SETTLE_INTERVAL):
                while len(self._answered) < SETTLE_BATCH and (self._running or self._hand):
                    await self._settling.wait()
                    self._settling = trio.Event()
            if self._answered:
                self._settling.set()

    async def _settle(self) -> None:
        """Settle what has been answered; what cannot be settled now stays to be settled later."""
        while self._answered and not self._lost:
            batch = self._answered[:SETTLE_BATCH]
            try:
                left = await self._tools.queue.settle(self._ownership, batch)
            except NotOwner:
                self._lost = True
            except Unavailable as error:
                _log.warning("cannot settle", project_id=self._project_id, error=str(error))
                await self._retry.pause()
            else:
                del self._answered[: len(batch)]
                self._left = max(0, left.count - len(self._answered))
        self._news.set()


def _weight(entry: Queued) -> int:
    return len(entry.event.body or b"") + 1_024


def _backoff(failures: int, policy: ProjectPolicy, retry_after: float | None) -> float:
    """Return the pause after so many failures: exponential with full jitter, but what the server asked for.

    Nothing is longer than the policy's cap.
    """
    bound = min(policy.retry_cap, policy.retry_base * 2.0 ** min(failures - 1, 32))
    pause = random.uniform(0.0, bound)  # noqa: S311 - spreading load
    return min(policy.retry_cap, max(pause, retry_after or 0.0))
