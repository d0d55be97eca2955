"""Following events: woken by what is recorded here or found when recorded elsewhere; bounded; drained."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from tests.support.deadlines import DEADLINE
from tests.support.events_rig import EventsRig, open_events_rig
from tests.support.history import answered, delivered, news, stored_event
from whook.backplane.ports import Unavailable


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncGenerator[EventsRig, None]:
    async with open_events_rig(tmp_path) as rig:
        yield rig


async def follow(rig: EventsRig, **params: Any) -> Any:
    return await rig.get("/projects/shop/events/follow", **params)


class Waiting:
    """A follower in a task of its own."""

    def __init__(self, rig: EventsRig, nursery: trio.Nursery, **params: Any) -> None:
        self.response: httpx.Response | None = None
        self._over = trio.Event()
        nursery.start_soon(self._run, rig, params)

    async def _run(self, rig: EventsRig, params: dict[str, Any]) -> None:
        self.response = await rig.ask("GET", "/projects/shop/events/follow", params=params)
        self._over.set()

    async def ended(self) -> httpx.Response:
        with trio.fail_after(DEADLINE):
            await self._over.wait()
        assert self.response is not None
        return self.response


async def waiting(rig: EventsRig, count: int) -> None:
    """Wait until so many followers wait."""
    with trio.fail_after(DEADLINE):
        while sum(one.waiting for one in everybody(rig)) != count:
            await trio.testing.wait_all_tasks_blocked(0.01)


def everybody(rig: EventsRig) -> list[Any]:
    return list(rig.history._followers._projects.values())  # type: ignore[attr-defined]


async def test_it_begins_at_the_newest(rig: EventsRig) -> None:
    assert await follow(rig) == {"events": [], "next": 0}
    await rig.history.record([answered(project_id=rig.shop.id) for _ in range(3)])
    told = await follow(rig)
    assert told["events"] == []
    all_of_them = await follow(rig, after=0)
    assert len(all_of_them["events"]) == 3
    assert all_of_them["next"] == told["next"] == all_of_them["events"][-1]["sequence"]


async def test_what_is_recorded_wakes_whoever_waits(rig: EventsRig) -> None:
    async with trio.open_nursery() as nursery:
        first, second = (Waiting(rig, nursery, after=0, wait=30) for _ in range(2))
        await waiting(rig, 2)
        record = answered(project_id=rig.shop.id)
        await rig.history.record([record])
        for one in (first, second):
            (event,) = (await one.ended()).json()["events"]
            assert event["id"] == record.event_id
    assert everybody(rig) == []


async def test_what_another_process_records_is_found_too(rig: EventsRig) -> None:
    async with trio.open_nursery() as nursery:
        one = Waiting(rig, nursery, after=0, wait=30)
        await waiting(rig, 1)
        record = answered(project_id=rig.shop.id)
        await rig.quiet_history.record([record])
        assert (await one.ended()).json()["events"][0]["id"] == record.event_id


async def test_another_projects_events_wake_nobody(rig: EventsRig) -> None:
    den = await rig.projects.get("den")
    assert den is not None
    async with trio.open_nursery() as nursery:
        one = Waiting(rig, nursery, after=0, wait=0.2)
        await rig.history.record([answered(project_id=den.id)])
        assert (await one.ended()).json() == {"events": [], "next": 0}


async def test_filters_leave_events_out_and_go_on_behind_them(rig: EventsRig) -> None:
    good, bad = stored_event(project_id=rig.shop.id, body=b"Apple"), stored_event(project_id=rig.shop.id)
    await rig.history.record(
        [news(good, "answered", delivered(good)), news(bad, "dead", delivered(bad, status=0))]
    )
    end = (await follow(rig))["next"]
    for params, wanted in (
        ({"grep": "aPP"}, [good.id]),
        ({"failed": "true"}, [bad.id]),
        ({"state": "answered"}, [good.id]),
        ({"state": "refused"}, []),
    ):
        told = await follow(rig, after=0, wait=0, **params)
        assert [event["id"] for event in told["events"]] == wanted
        assert told["next"] == end


async def test_a_drain_ends_the_wait(rig: EventsRig) -> None:
    async with trio.open_nursery() as nursery:
        one = Waiting(rig, nursery, after=0, wait=30)
        await waiting(rig, 1)
        rig.drain.begin("test")
        response = await one.ended()
        assert (response.status_code, response.json()) == (200, {"events": [], "next": 0})


async def test_only_so_many_may_wait(rig: EventsRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.history._followers, "_max", 2)  # type: ignore[attr-defined]
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            Waiting(rig, nursery, after=0, wait=30)
        await waiting(rig, 2)
        response = await rig.ask("GET", "/projects/shop/events/follow", params={"after": 0})
        assert response.status_code == 503
        assert response.json()["type"] == "urn:whook:problem:overloaded"
        assert int(response.headers["retry-after"]) >= 1
        assert (await follow(rig))["next"] == 0
        nursery.cancel_scope.cancel()
    await waiting(rig, 0)
    assert (await follow(rig, after=0, wait=0))["events"] == []


async def test_a_store_that_is_away_for_a_while_ends_nothing(
    rig: EventsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.history._followers, "_interval", 0.05)  # type: ignore[attr-defined]
    real = rig.quiet_history.follow
    asked = trio.Event()

    async def away(project_id: str, after: int, limit: int) -> Any:
        if after == -1:
            asked.set()
            raise Unavailable("the store is gone")
        return await real(project_id, after, limit)

    async with trio.open_nursery() as nursery:
        one = Waiting(rig, nursery, after=0, wait=30)
        await waiting(rig, 1)
        monkeypatch.setattr(rig.quiet_history, "follow", away)
        with trio.fail_after(DEADLINE):
            await asked.wait()
        monkeypatch.setattr(rig.quiet_history, "follow", real)
        record = answered(project_id=rig.shop.id)
        await rig.quiet_history.record([record])
        assert (await one.ended()).json()["events"][0]["id"] == record.event_id


async def test_what_cannot_be_asked_is_422(rig: EventsRig) -> None:
    wrong: list[dict[str, Any]] = [{"wait": 31}, {"wait": -1}, {"after": -1}, {"after": 2**63}, {"limit": 0}]
    for params in wrong:
        response = await rig.ask("GET", "/projects/shop/events/follow", params=params)
        assert response.status_code == 422
