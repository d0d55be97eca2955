"""What every store of projects must do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.twins import StoreTwin
from whook.backplane.ports import (
    TOPIC_PROJECTS,
    Bus,
    Project,
    ProjectPolicy,
    Projects,
    ProjectSet,
    decode_project_event,
)


async def test_an_unknown_name_is_none(projects: Projects) -> None:
    assert await projects.get("shop") is None
    assert await projects.list() == []


async def test_create_and_get(projects: Projects) -> None:
    made = await projects.create("shop", "prj_1")
    assert made.name == "shop"
    assert made.id == "prj_1"
    assert abs(datetime.now(UTC) - made.created_at) < timedelta(minutes=1)
    assert await projects.get("shop") == made


async def test_create_again_gives_the_same(projects: Projects) -> None:
    assert await projects.create("shop", "prj_1") == await projects.create("shop", "prj_1")
    assert len(await projects.list()) == 1


async def test_a_project_of_an_earlier_claim_is_replaced(projects: Projects, store_bus: Bus) -> None:
    old = await projects.create("shop", "prj_1")
    async with store_bus.subscribe(TOPIC_PROJECTS) as subscription:
        new = await projects.create("shop", "prj_2")
        assert (old.id, new.id) == ("prj_1", "prj_2")
        with trio.fail_after(DEADLINE):
            assert decode_project_event((await subscription.__anext__())[1]) == ProjectSet(new)
    assert await projects.get("shop") == new
    assert await projects.list() == [new]


async def test_who_was_overtaken_by_a_later_claim_replaces_nothing(projects: Projects) -> None:
    new = await projects.create("shop", "prj_2")
    assert await projects.create("shop", "prj_1") == new
    assert await projects.list() == [new]


async def test_list_is_by_name(projects: Projects) -> None:
    for name in ("shop", "blog", "crm"):
        await projects.create(name, f"prj_{name}")
    assert [project.name for project in await projects.list()] == ["blog", "crm", "shop"]


@pytest.mark.parametrize("name", ["", "Shop", "-shop", "a.b", "x" * 64, "api", "xn--p"])
async def test_a_bad_name_is_refused(projects: Projects, name: str) -> None:
    with pytest.raises(ValueError, match="project name"):
        await projects.create(name, "prj_1")
    assert await projects.list() == []


async def test_only_a_new_project_is_published(projects: Projects, store_bus: Bus) -> None:
    async with store_bus.subscribe(TOPIC_PROJECTS) as subscription:
        shop = await projects.create("shop", "prj_1")
        await projects.create("shop", "prj_1")
        blog = await projects.create("blog", "prj_2")
        with trio.fail_after(DEADLINE):
            events = [decode_project_event((await subscription.__anext__())[1]) for _ in range(2)]
    assert events == [ProjectSet(shop), ProjectSet(blog)]


async def test_many_at_once_get_the_same_project(
    store_twin: StoreTwin, store_bus: Bus, tmp_path: Path
) -> None:
    got: list[Project] = []

    async def create(store: Projects) -> None:
        got.append(await store.create("shop", "prj_1"))

    async with (
        store_twin.open_projects(tmp_path, store_bus) as here,
        store_twin.open_projects(tmp_path, store_bus) as there,
        store_bus.subscribe(TOPIC_PROJECTS) as subscription,
    ):
        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(create, there if n % 2 else here)
        assert len(got) == 20
        assert len(set(got)) == 1
        await store_bus.publish(TOPIC_PROJECTS, b"end")
        with trio.fail_after(DEADLINE):
            assert decode_project_event((await subscription.__anext__())[1]) == ProjectSet(got[0])
            assert await subscription.__anext__() == (TOPIC_PROJECTS, b"end")


async def test_projects_outlive_the_store(store_twin: StoreTwin, store_bus: Bus, tmp_path: Path) -> None:
    async with store_twin.open_projects(tmp_path, store_bus) as store:
        made = await store.create("shop", "prj_1")
    async with store_twin.open_projects(tmp_path, store_bus) as store:
        assert await store.list() == [made]


async def test_a_policy_is_kept_and_published(projects: Projects, store_bus: Bus) -> None:
    shop = await projects.create("shop", "prj_1")
    await projects.create("blog", "prj_2")
    assert shop.policy == ProjectPolicy()
    policy = ProjectPolicy(buffer_methods=("POST", "PUT"), order="live-first", dedup_window=300)
    async with store_bus.subscribe(TOPIC_PROJECTS) as subscription:
        changed = await projects.set_policy(shop.id, policy)
        with trio.fail_after(DEADLINE):
            event = decode_project_event((await subscription.__anext__())[1])
    assert changed == replace(shop, policy=policy)
    assert event == ProjectSet(changed)
    assert await projects.get("shop") == changed
    assert await projects.with_policies() == [changed]


async def test_the_default_policy_is_none_to_speak_of(projects: Projects) -> None:
    shop = await projects.create("shop", "prj_1")
    await projects.set_policy(shop.id, ProjectPolicy(window=4))
    assert await projects.set_policy(shop.id, ProjectPolicy()) == shop
    assert await projects.with_policies() == []


async def test_a_project_that_is_gone_gets_no_policy(projects: Projects) -> None:
    assert await projects.set_policy("prj_gone", ProjectPolicy(window=4)) is None
