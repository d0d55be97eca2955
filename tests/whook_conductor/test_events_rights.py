"""Who may see and replay events: by scope, by role, by the token's projects; what is another's is unknown."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest

from tests.support.events_rig import EventsRig, open_events_rig
from tests.support.history import answered
from whook.chassis.ids import new_id


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncGenerator[EventsRig, None]:
    async with open_events_rig(tmp_path) as rig:
        yield rig


async def recorded(rig: EventsRig) -> str:
    record = answered(project_id=rig.shop.id, project="shop")
    await rig.history.record([record])
    return record.event_id


def readings(event: str) -> list[str]:
    return [
        "/projects/shop/events",
        "/projects/shop/events/follow",
        "/projects/shop/backlog",
        f"/projects/shop/events/{event}",
        f"/projects/shop/events/{event}/raw",
        f"/projects/shop/events/{event}/body",
        f"/events/{event}",
    ]


async def replay(rig: EventsRig, event: str, who: str) -> httpx.Response:
    return await rig.ask("POST", "/projects/shop/replays", who=who, json={"events": [event]})


def kind(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition(":")[2]


async def test_every_member_reads(rig: EventsRig) -> None:
    event = await recorded(rig)
    for who in ("ann", "bob", "vic", "admin"):
        for path in readings(event):
            assert (await rig.ask("GET", path, who=who)).status_code == 200, (who, path)


async def test_owners_and_developers_replay(rig: EventsRig) -> None:
    event = await recorded(rig)
    for who, status in (("ann", 202), ("bob", 202), ("admin", 202), ("vic", 403)):
        assert (await replay(rig, event, who)).status_code == status, who
    assert len(await rig.queued()) == 3


async def refused(rig: EventsRig, response: httpx.Response, status: int, slug: str, action: str) -> None:
    assert kind(response) == (status, slug)
    entry = (await rig.refusals())[0]
    assert (entry.action, entry.address) == (action, "127.0.0.1")
    assert entry.detail


async def test_a_strangers_project_looks_like_one_that_does_not_exist(rig: EventsRig) -> None:
    event = await recorded(rig)
    for path in readings(event):
        there = await rig.ask("GET", path, who="eve")
        nowhere = await rig.ask(
            "GET", path.replace("/shop/", "/none/").replace(event, new_id("evt")), who="eve"
        )
        assert there.status_code == 404, path
        assert there.json() == nowhere.json()
        if path.startswith("/projects"):
            await refused(rig, there, 404, "unknown-project", "events:read")
    there = await replay(rig, event, "eve")
    await refused(rig, there, 404, "unknown-project", "events:replay")
    nowhere = await rig.ask("POST", "/projects/none/replays", who="eve", json={"events": [event]})
    assert there.json() == nowhere.json()
    assert await rig.queued() == []


async def test_an_event_of_another_project_is_unknown_in_ones_own(rig: EventsRig) -> None:
    event = await recorded(rig)
    for path in ("", "/raw", "/body"):
        response = await rig.ask("GET", f"/projects/den/events/{event}{path}", who="eve")
        assert kind(response) == (404, "unknown-event")
    response = await rig.ask("POST", "/projects/den/replays", who="eve", json={"events": [event]})
    assert response.json()["skipped"] == [{"event": event, "reason": "unknown-event"}]
    assert (await rig.get("/projects/den/events", who="eve", after=event))["events"] == []


async def test_a_token_without_the_scope_is_refused(rig: EventsRig) -> None:
    event = await recorded(rig)
    token = await rig.token("ann", "connect", "events:replay")
    for path in readings(event):
        response = await rig.ask("GET", path, who=token)
        await refused(rig, response, 403, "forbidden", "events:read")
    token = await rig.token("ann", "events:read", "connect", "projects:write")
    await refused(rig, await replay(rig, event, token), 403, "forbidden", "events:replay")
    assert await rig.queued() == []


async def test_a_token_for_another_project_sees_nothing_of_this(rig: EventsRig) -> None:
    event = await recorded(rig)
    token = await rig.token("ann", projects=["other"])
    for path in readings(event):
        assert (await rig.ask("GET", path, who=token)).status_code == 404, path
    assert kind(await replay(rig, event, token)) == (404, "unknown-project")
    token = await rig.token("ann", projects=["shop"])
    assert (await rig.ask("GET", f"/events/{event}", who=token)).status_code == 200


async def test_without_a_good_token_nothing_is_told(rig: EventsRig) -> None:
    event = await recorded(rig)
    for who in ("", "whk_" + "a" * 49, "rubbish"):
        for path in readings(event):
            assert kind(await rig.ask("GET", path, who=who)) == (401, "unauthorized")
        assert kind(await replay(rig, event, who)) == (401, "unauthorized")


async def test_one_who_was_removed_sees_nothing_any_more(rig: EventsRig) -> None:
    event = await recorded(rig)
    vic = await rig.store.account(name="vic")
    assert vic is not None
    assert await rig.store.remove_member("shop", vic.id, rig.auth.trail.entry("test"))
    for path in readings(event):
        assert (await rig.ask("GET", path, who="vic")).status_code == 404, path


async def test_a_name_that_nobody_owns_any_more_shows_nothing_to_anybody(rig: EventsRig) -> None:
    """Also while the conductor's row of the deleted project is still there."""
    event = await recorded(rig)
    await rig.store.delete_project("shop", rig.auth.trail.entry("test"))
    for who in ("ann", "bob", "admin"):
        assert kind(await rig.ask("GET", "/projects/shop/events", who=who)) == (404, "unknown-project")
        assert (await rig.ask("GET", f"/events/{event}", who=who)).status_code == 404
