"""The dispatcher: this conductor as an owner of backlogs, and the task for each that it owns.

Run by the service beside the listeners; it ends by itself once the drain has begun and what was under way is
over.

    run
    └─ term                      one lease in the queue, ended before the lease can have ended
       ├─ renew                  every INTERVAL seconds
       └─ assign                 a deliverer for each project that has a backlog, a route and no other owner

The queue's outages pause it and never end it. It must never let two owners deliver at a time: whatever runs
under a lease is cancelled `MARGIN` seconds before the queue can take the lease for over, counted from before
the lease was asked for.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Final, get_args

import structlog
import trio

from whook.backplane.ports import (
    TOPIC_BACKLOG,
    BacklogState,
    Bus,
    History,
    NotOwner,
    Queue,
    Unavailable,
    encode_event,
)
from whook.chassis import metrics
from whook.chassis.drain import Drain
from whook.chassis.published import LeaseState
from whook_conductor.backlogs import BacklogTable
from whook_conductor.deliverer import Deliverer, Tools
from whook_conductor.deliveries import Courier, Verdict
from whook_conductor.policies import Policies
from whook_conductor.retry import Retry
from whook_conductor.routes import RouteTable
from whook_conductor.upload import Budget

LEASE: Final = 6.0
"""Seconds after which an owner that is not heard of is replaced."""
INTERVAL: Final = 2.0
"""Seconds between two renewals, and between two sweeps over all backlogs."""
MARGIN: Final = 1.0
_IDLE: Final = 10.0
"""Seconds without any backlog after which the lease is not renewed."""
_LEAVE_TIME: Final = 2.0
_AT_ONCE: Final = 0.01
"""Seconds for which news gathers: a table that is loaded tells of everything at once."""

_log = structlog.get_logger("whook.conductor.dispatcher")


class Dispatcher:
    """See the module."""

    def __init__(
        self,
        *,
        owner: str,
        queue: Queue,
        history: History,
        bus: Bus,
        backlogs: BacklogTable,
        table: RouteTable,
        policies: Policies,
        courier: Courier,
        memory: int,
        drain: Drain,
    ) -> None:
        """`owner` names this process; `memory` are the bytes of events held for their delivery."""
        self._owner = owner
        self._queue = queue
        self._bus = bus
        self._backlogs = backlogs
        self._table = table
        self._drain = drain
        self._lease_end = 0.0
        self._candidates: set[str] = set()
        self._news = trio.Event()
        self._working: dict[str, Deliverer | None] = {}
        """By project; None while its ownership is asked for."""
        self._all_done = trio.Event()
        self.totals: dict[str, int] = dict.fromkeys((*get_args(Verdict), "defect"), 0)
        self.lease = LeaseState()
        self.memory = Budget(memory)
        self._tools = Tools(
            queue=queue,
            history=history,
            courier=courier,
            table=table,
            policies=policies,
            memory=self.memory,
            totals=self.totals,
            may_begin=lambda: trio.current_time() < self._lease_end,
            tell=self._tell,
        )
        backlogs.changed = self._changed
        table.on_route.append(lambda route: self._changed(route.project_id))

    def _changed(self, project_id: str) -> None:
        """Something of the project has come to wait, or it has a route."""
        deliverer = self._working.get(project_id)
        if deliverer is not None:
            deliverer.poke()
        elif self._backlogs.waits(project_id):
            self._candidates.add(project_id)
            self._news.set()

    # -- the lease -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Be an owner until the drain has begun and what was under way is over."""
        retry = Retry()
        attended = False
        try:
            while not self._drain.begun:
                await self._wait_for_work()
                if self._drain.begun:
                    break
                asked = trio.current_time()
                try:
                    with trio.fail_after(LEASE - MARGIN):
                        attended = True
                        await self._queue.attend(self._owner, LEASE)
                except (Unavailable, trio.TooSlowError) as error:
                    self.lease.failed()
                    _log.warning("cannot own backlogs now", error=str(error) or "the queue is too slow")
                    with trio.move_on_after(retry.next()):
                        await self._drain.wait()
                    continue
                retry.reset()
                await self._term(asked)
        finally:
            if attended:
                with trio.move_on_after(_LEAVE_TIME, shield=True), suppress(Unavailable):
                    await self._queue.leave(self._owner)

    async def _wait_for_work(self) -> None:
        """Wait until something may have to be delivered: no lease is kept while nothing waits."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_drain, name="drain")
            while not (self._drain.begun or self._backlogs.all()):
                self._news = trio.Event()
                await self._news.wait()
            nursery.cancel_scope.cancel()

    async def _term(self, asked: float) -> None:
        async with trio.open_nursery() as term:
            scope = term.cancel_scope
            self._extend(scope, asked)
            term.start_soon(self._renew, scope, name="renew the lease")
            term.start_soon(self._watch_drain, name="drain")
            await self._assign(term)
            for deliverer in self._working.values():
                if deliverer is not None:
                    deliverer.finish()
            while self._working:
                self._all_done = trio.Event()
                await self._all_done.wait()
            scope.cancel(reason="the dispatcher is done")
        self._lease_end = 0.0
        self.lease.ended()

    def _extend(self, scope: trio.CancelScope, asked: float) -> None:
        self.lease.renewed()
        self._lease_end = scope.deadline = asked + LEASE - MARGIN

    async def _watch_drain(self) -> None:
        await self._drain.wait()
        self._news.set()

    async def _renew(self, scope: trio.CancelScope) -> None:
        retry = Retry(cap=0.5)
        while True:
            await trio.sleep(INTERVAL)
            renewed = False
            while True:
                asked = trio.current_time()
                try:
                    renewed = await self._queue.attend(self._owner, LEASE)
                except Unavailable as error:
                    self.lease.failed()
                    _log.warning("the lease is not renewed yet", error=str(error))
                    await retry.pause()
                else:
                    break
            if not renewed:
                self.lease.failed(lost=True)
                _log.warning("the lease was lost: another owner may have taken over")
                scope.cancel(reason="the lease was lost")
                return
            self._extend(scope, asked)

    # -- who owns what ---------------------------------------------------------------------------------

    async def _assign(self, term: trio.Nursery) -> None:
        sweep_at = 0.0
        idle_since = trio.current_time()
        while not self._drain.begun:
            self._news = trio.Event()
            now = trio.current_time()
            if self._working or self._backlogs.all():
                idle_since = now
            elif now - idle_since > _IDLE:
                return
            if now >= sweep_at:
                sweep_at = now + INTERVAL
                self._candidates.update(self._backlogs.all())
            candidates, self._candidates = self._candidates, set()
            for project_id in candidates:
                if project_id not in self._working and self._table.of(project_id) is not None:
                    self._working[project_id] = None
                    term.start_soon(self._own, project_id, name=f"backlog {project_id}")
            await trio.sleep(_AT_ONCE)
            with trio.move_on_at(sweep_at):
                await self._news.wait()

    async def _own(self, project_id: str) -> None:
        """Own one backlog, if nobody else does, as long as there is something to do."""
        try:
            ownership = await self._queue.acquire(project_id, self._owner)
            if ownership is None or self._drain.begun:
                return
            deliverer = self._working[project_id] = Deliverer(ownership, self._tools)
            await deliverer.run()
            if not self._backlogs.waits(project_id):
                return
        except NotOwner:
            _log.info("a backlog has another owner", project_id=project_id)
        except Unavailable as error:
            _log.warning("cannot work on a backlog", project_id=project_id, error=str(error))
        except Exception:  # noqa: BLE001 the containment wrapper of one backlog
            _log.exception("a backlog cannot be worked on", project_id=project_id)
            self.totals["defect"] += 1
        else:
            self._candidates.add(project_id)  # what came in the last moment was told to one that had ended
            self._news.set()
        finally:
            del self._working[project_id]
            if not self._working:
                self._all_done.set()

    async def _tell(self, news: BacklogState) -> None:
        self._backlogs.apply(news)
        with suppress(Unavailable):
            await self._bus.publish(TOPIC_BACKLOG, encode_event(news))

    @contextmanager
    def published(self) -> Generator[None]:
        """Publish metrics as long as the block runs."""
        with ExitStack() as stack:
            stack.enter_context(
                metrics.watch(
                    "whook_backlogs_owned",
                    "Backlogs that this conductor works off.",
                    lambda: sum(1 for found in self._working.values() if found is not None),
                )
            )
            meaning = "Deliveries out of the queue by what became of them."
            for verdict in self.totals:
                count = partial(self.totals.__getitem__, verdict)
                stack.enter_context(
                    metrics.watch("whook_deliveries", meaning, count, kind="counter", result=verdict)
                )
            yield
