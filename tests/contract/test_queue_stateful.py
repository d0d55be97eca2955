"""Any sequence of calls on a Queue, compared with a model, and with a mirror that follows its events.

What must hold whatever happens: nothing that was appended goes but by `settle`; each project is read in order
by the one ownership that stands; attempts and failures are counted; limits and sums are exact; and the events
alone tell which projects hold.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.portal import Portal
from tests.support.queues import LONG, QUEUES, OpenQueue, QueueTwin, event, limits, next_change
from whook.backplane.ports import (
    TOPIC_BACKLOG,
    BacklogSet,
    NotOwner,
    Origin,
    Ownership,
    QueueFull,
    StoredEvent,
    Subscription,
)

PROJECTS = st.sampled_from(["shop", "blog"])
OWNERS = st.sampled_from(["one", "two"])
STALE = st.sampled_from([None, None, None, None, None, None, 0, 1])
"""Whether a call is made under the ownership that stands, or under one of the last ones."""
ORIGINS: st.SearchStrategy[Origin] = st.sampled_from(["buffered", "replay"])
LATER = 10_000.0
PAIRS = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=3)
WEBHOOKS = st.builds(
    lambda body, size, **named: {"body": body, "body_size": size if body is None else len(body), **named},
    st.none() | st.binary(max_size=300),
    st.integers(0, 500),
    headers=PAIRS,
    trailers=PAIRS,
    target=st.binary(max_size=20),
    peer=st.text(max_size=10),
)


@dataclass
class Waiting:
    """One entry of the model."""

    event: StoredEvent
    origin: Origin
    attempts: int
    size: int = 0
    failures: int = 0
    given: int = 0
    due_at: float = 0.0
    position: str = ""


@dataclass
class Opened:
    """The queue of one run, with what has been heard of it."""

    twin: OpenQueue
    changes: Subscription
    holding: set[str] = field(default_factory=set[str])
    version: int = 0


def size_of(stored: StoredEvent) -> int:
    return len(msgspec.msgpack.encode(stored)) + (stored.body_size if stored.body is None else 0)


class QueueMachine(RuleBasedStateMachine):
    """The model: entries by project in order, leases, and the last ownership of each project."""

    twin: QueueTwin

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.portal = Portal(self.open)
        self.queue = self.portal.opened.twin.queue
        self.entries: dict[str, list[Waiting]] = {"prj_shop": [], "prj_blog": []}
        self.leases: set[str] = set()
        self.standing: dict[str, Ownership] = {}
        self.past: list[Ownership] = []
        self.highest = 0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Opened, None]:
        async with (
            self.twin.open(Path(self.folder.name)) as opened,
            opened.bus.subscribe(TOPIC_BACKLOG) as changes,
        ):
            yield Opened(opened, changes)

    def teardown(self) -> None:
        self.portal.close()
        self.folder.cleanup()

    def pick(self, project: str, stale: int | None) -> Ownership:
        """Give the ownership that stands, made if there is none, or one of those that were ended."""
        project_id = f"prj_{project}"
        if stale is not None:
            ended = [one for one in self.past if one.project_id == project_id and not self.stands(one)]
            if ended:
                return ended[-1 - stale % len(ended)]
        if project_id not in self.standing:
            self.attend("one")
            self.acquire(project, "one")
        return self.standing[project_id]

    def stands(self, ownership: Ownership) -> bool:
        return self.standing.get(ownership.project_id) == ownership

    @rule(
        project=PROJECTS,
        webhook=WEBHOOKS,
        origin=ORIGINS,
        attempts=st.integers(0, 3),
        count=st.sampled_from([2, 12, 12, 12]),
        room=st.sampled_from([None, None, None, None, -1, 0, 1]),
    )
    def append(
        self,
        project: str,
        webhook: dict[str, object],
        origin: Origin,
        attempts: int,
        count: int,
        room: int | None,
    ) -> None:
        """``room``: bytes that the limit leaves beyond what this one needs, or no limit."""
        stored = event(project, **webhook)  # type: ignore[arg-type]
        held = self.entries[stored.project_id]
        total = sum(len(entries) for entries in self.entries.values())
        size = size_of(stored)
        before = sum(entry.size for entry in held)
        bound = 10**9 if room is None else before + size + room
        try:
            self.portal.call(
                self.queue.append,
                stored,
                limits(project_count=count, project_bytes=bound, total_count=15),
                origin=origin,
                attempts=attempts,
            )
        except QueueFull as error:
            limit = error.limit
        else:
            assert len(held) < count
            assert before + size <= bound
            assert total < 15
            held.append(Waiting(stored, origin, attempts, size))
            return
        full = {
            "project-count": len(held) >= count,
            "project-bytes": before + size > bound,
            "total-count": total >= 15,
        }
        assert full[limit]

    @rule(owner=OWNERS)
    def attends(self, owner: str) -> None:
        self.attend(owner)

    def attend(self, owner: str) -> None:
        assert self.portal.call(self.queue.attend, owner, LONG) == (owner in self.leases)
        self.leases.add(owner)

    @rule(owner=OWNERS)
    def leave(self, owner: str) -> None:
        self.portal.call(self.queue.leave, owner)
        self.leases.discard(owner)
        self.standing = {key: held for key, held in self.standing.items() if held.owner != owner}

    @rule(project=PROJECTS, owner=OWNERS)
    def acquires(self, project: str, owner: str) -> None:
        self.acquire(project, owner)

    def acquire(self, project: str, owner: str) -> None:
        project_id = f"prj_{project}"
        held = self.standing.get(project_id)
        try:
            ownership = self.portal.call(self.queue.acquire, project_id, owner)
        except NotOwner:
            assert owner not in self.leases
            return
        assert owner in self.leases
        if ownership is None:
            assert held is not None
            assert held.owner != owner
            return
        assert held is None or held.owner == owner
        assert (ownership.project_id, ownership.owner) == (project_id, owner)
        assert ownership.fence > self.highest
        self.highest = ownership.fence
        self.standing[project_id] = ownership
        self.past.append(ownership)

    @rule(project=PROJECTS, stale=STALE)
    def release(self, project: str, stale: int | None) -> None:
        ownership = self.pick(project, stale)
        self.portal.call(self.queue.release, ownership)
        if self.stands(ownership):
            del self.standing[ownership.project_id]

    @rule(
        project=PROJECTS,
        stale=STALE,
        limit=st.integers(0, 5),
        max_bytes=st.sampled_from([0, 100, 600, 10**9]),
        in_order=st.booleans(),
    )
    def read(self, project: str, stale: int | None, limit: int, max_bytes: int, in_order: bool) -> None:
        ownership = self.pick(project, stale)
        try:
            batch = self.portal.call(
                self.queue.read, ownership, limit=limit, max_bytes=max_bytes, in_order=in_order
            )
        except NotOwner:
            assert not self.stands(ownership)
            return
        assert self.stands(ownership)
        now = time.time()
        entries = self.entries[ownership.project_id]
        due: list[Waiting] = []
        deferred = [entry for entry in entries if entry.due_at > now]
        for entry in entries:
            if in_order and entry.due_at > now:
                break
            total = sum(other.event.body_size for other in due) + entry.event.body_size
            if entry.given == ownership.fence or entry.due_at > now:
                continue
            if len(due) == limit or (due and total > max_bytes):
                break
            due.append(entry)
        assert [entry.event for entry in batch.entries] == [entry.event for entry in due]
        for got, entry in zip(batch.entries, due, strict=True):
            entry.attempts += 1
            entry.given, entry.due_at = ownership.fence, 0.0
            assert entry.position in ("", got.position)
            entry.position = got.position
            assert (got.origin, got.attempt, got.failures) == (entry.origin, entry.attempts, entry.failures)
        if deferred:
            wanted = deferred[0] if in_order else min(deferred, key=lambda entry: entry.due_at)
            assert batch.next_due == pytest.approx(wanted.due_at, abs=0.001)
        else:
            assert batch.next_due is None

    @rule(project=PROJECTS, stale=STALE, which=st.sets(st.integers(0, 3), min_size=1))
    def settle(self, project: str, stale: int | None, which: set[int]) -> None:
        ownership = self.pick(project, stale)
        entries = self.entries[ownership.project_id]
        positions = [entry.position for index, entry in enumerate(entries) if index in which]
        try:
            left = self.portal.call(self.queue.settle, ownership, positions)
        except NotOwner:
            assert not self.stands(ownership)
            return
        assert self.stands(ownership)
        entries[:] = [
            entry for index, entry in enumerate(entries) if index not in which or not entry.position
        ]
        assert left.count == len(entries)

    @rule(
        project=PROJECTS,
        stale=STALE,
        index=st.integers(0, 3),
        wait=st.none() | st.integers(0, 5),
        failed=st.booleans(),
    )
    def defer(self, project: str, stale: int | None, index: int, wait: int | None, failed: bool) -> None:
        ownership = self.pick(project, stale)
        entries = self.entries[ownership.project_id][index : index + 1]
        position = entries[0].position if entries else "7"
        until = 0.0 if wait is None else time.time() + LATER + wait
        try:
            self.portal.call(self.queue.defer, ownership, position, until=until, failed=failed)
        except NotOwner:
            assert not self.stands(ownership)
            return
        assert self.stands(ownership)
        for entry in entries:
            if entry.given == ownership.fence:
                entry.given, entry.due_at = 0, until
                entry.failures += failed

    @invariant()
    def backlogs_are_as_the_model(self) -> None:
        held = self.portal.call(self.queue.backlogs)
        assert {key: (backlog.count, backlog.bytes) for key, backlog in held.items()} == {
            key: (len(entries), sum(entry.size for entry in entries))
            for key, entries in self.entries.items()
            if entries
        }
        for key, backlog in held.items():
            assert self.portal.call(self.queue.backlog, key) == backlog
            if self.entries[key][0].origin == "buffered":
                assert backlog.oldest_at == self.entries[key][0].event.received_at

    @invariant()
    def the_bus_tells_the_same(self) -> None:
        opened = self.portal.opened
        version = self.portal.call(self.queue.version)
        holds = {key for key, entries in self.entries.items() if entries}
        while holds != opened.holding:
            change = self.portal.call(next_change, opened.changes)
            assert opened.version < change.version <= version
            opened.version = change.version
            (opened.holding.add if isinstance(change, BacklogSet) else opened.holding.discard)(
                change.project_id
            )


@pytest.mark.parametrize("twin", QUEUES, ids=lambda twin: twin.name)
def test_any_sequence_of_calls(twin: QueueTwin) -> None:
    machine = type("Machine", (QueueMachine,), {"twin": twin})
    quick = settings(
        max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(machine, settings=quick)
