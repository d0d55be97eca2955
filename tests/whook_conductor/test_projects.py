"""The project cache: bounded in number, in time, and in what it asks of the store."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.conductor_stores import DictProjects
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import TOPIC_PROJECTS, Project, ProjectSet, Unavailable, encode_event
from whook_conductor import projects
from whook_conductor.projects import LookupsBusyError, ProjectCache, sync_projects


def cache(store: DictProjects, *, max_unknown: int = 100) -> ProjectCache:
    return ProjectCache(store, ttl=60, unknown_ttl=10, max_unknown=max_unknown)


async def test_what_exists_is_asked_for_once_until_its_time_is_over(autojump_clock: trio.abc.Clock) -> None:
    store = DictProjects()
    await store.create("a")
    found = cache(store)
    for _ in range(3):
        assert await found.find("a") == store.stored["a"]
    assert store.asked == ["a"]
    await trio.sleep(61)
    await found.find("a")
    assert store.asked == ["a", "a"]


async def test_what_does_not_exist_is_remembered_for_less_time(autojump_clock: trio.abc.Clock) -> None:
    store = DictProjects()
    found = cache(store)
    assert await found.find("a") is None
    assert await found.find("a") is None
    assert store.asked == ["a"]
    await store.create("a")
    await trio.sleep(11)
    assert await found.find("a") is not None


async def test_the_memory_for_unknown_names_is_bounded() -> None:
    store = DictProjects()
    found = cache(store, max_unknown=3)
    for name in "abcd":
        await found.find(name)
    await found.find("d")
    assert store.asked == list("abcd")
    await found.find("a")
    assert store.asked == list("abcda")


async def test_a_project_known_before_outlives_the_store(autojump_clock: trio.abc.Clock) -> None:
    store = DictProjects()
    await store.create("a")
    found = cache(store)
    await found.find("a")
    await trio.sleep(61)
    store.broken = True
    assert await found.find("a") is not None
    with pytest.raises(Unavailable):
        await found.find("b")


class SlowProjects(DictProjects):
    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.go_on = trio.Event()

    async def get(self, name: str) -> Project | None:
        self.running += 1
        await self.go_on.wait()
        self.running -= 1
        return await super().get(name)


async def test_look_ups_are_few_at_a_time_and_many_askers_of_one_name_share_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projects, "MAX_WAITING", 50)
    store = SlowProjects()
    found = cache(store)
    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(found.find, f"name{number % 10}")
        await trio.testing.wait_all_tasks_blocked()
        assert store.running == projects.MAX_LOOKUPS
        for name in ("one-too-many", "name1"):
            with pytest.raises(LookupsBusyError):
                await found.find(name)
        store.go_on.set()
    assert sorted(store.asked) == sorted(f"name{number}" for number in range(10))


async def test_those_who_share_a_look_up_share_its_failure() -> None:
    store = SlowProjects()
    found = cache(store)
    failed = 0

    async def ask() -> None:
        nonlocal failed
        with pytest.raises(Unavailable):
            await found.find("a")
        failed += 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        store.broken = True
        store.go_on.set()
    assert (failed, store.asked) == (5, ["a"])


async def test_one_who_gives_up_leaves_the_question_to_the_others() -> None:
    store = SlowProjects()
    await store.create("a")
    found = cache(store)
    answers: list[Project | None] = []

    async def ask() -> None:
        answers.append(await found.find("a"))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as first:
            async with trio.open_nursery() as one:
                one.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                first.cancel()
        store.go_on.set()
    assert answers == [store.stored["a"]]


async def test_a_project_made_while_the_store_is_asked_is_not_taken_for_unknown() -> None:
    store = SlowProjects()
    found = cache(store)
    answers: list[Project | None] = []

    async def ask() -> None:
        answers.append(await found.find("a"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        other = DictProjects()
        made = await other.create("a")
        found.remember(made)
        store.go_on.set()
    assert answers == [made]
    assert found.peek("a") == made


async def test_a_project_made_elsewhere_is_learnt_from_the_bus() -> None:
    store, bus = DictProjects(), MemoryBus()
    found = cache(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync_projects, found, bus)
        await trio.testing.wait_all_tasks_blocked()
        assert await found.find("a") is None
        made = await store.create("a")
        await bus.publish(TOPIC_PROJECTS, encode_event(ProjectSet(made)))
        await trio.testing.wait_all_tasks_blocked()
        assert await found.find("a") == made
        assert store.asked == ["a"]
        nursery.cancel_scope.cancel()
