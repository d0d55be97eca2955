"""Replays by the API: in order, byte for byte, bounded, and honest about what could not be queued."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.events_rig import EventsRig, open_events_rig
from tests.support.history import answered, delivered, news, stored_event
from whook.backplane.ports import EventQuery, Found, QueueLimits, StoredEvent, Unavailable
from whook.chassis.ids import new_id
from whook_conductor import replays

T0 = 1_790_000_000.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncGenerator[EventsRig, None]:
    async with open_events_rig(tmp_path) as rig:
        yield rig


async def record(rig: EventsRig, count: int, **fields: Any) -> list[StoredEvent]:
    """Record answered events, one second apart."""
    made = [answered(T0 + n, rig.shop.id, target=b"/%d" % n, **fields) for n in range(count)]
    await rig.history.record(made)
    return [one.event for one in made if one.event is not None]


async def replay(rig: EventsRig, status: int = 202, **wanted: Any) -> Any:
    response = await rig.ask("POST", "/projects/shop/replays", json=wanted)
    assert response.status_code == status, response.text
    return response.json()


def at(seconds: float) -> str:
    return datetime.fromtimestamp(T0 + seconds, UTC).isoformat()


async def test_a_replay_is_the_same_event_again(rig: EventsRig) -> None:
    (event,) = await record(rig, 1)
    later = delivered(event, 4, origin="replay")
    await rig.history.record([news(event, delivery=later, at=T0 + 9, known=True)])
    told = await replay(rig, events=[event.id])
    assert told == {"queued": [event.id], "skipped": [], "stopped": None, "next": None}
    (entry,) = await rig.queued()
    assert entry.event == event
    assert (entry.origin, entry.attempt, entry.failures) == ("replay", 5, 0)


async def test_named_events_keep_the_order_in_which_they_are_named(rig: EventsRig) -> None:
    events = await record(rig, 4)
    ids = [events[n].id for n in (2, 0, 3, 2)]
    assert (await replay(rig, events=ids))["queued"] == ids
    assert [entry.event.id for entry in await rig.queued()] == ids


async def test_a_range_is_queued_the_oldest_first(rig: EventsRig) -> None:
    events = await record(rig, 6)
    told = await replay(rig, since=at(1), until=at(5))
    assert told["queued"] == [event.id for event in events[1:5]]
    assert [entry.event.target for entry in await rig.queued()] == [b"/1", b"/2", b"/3", b"/4"]


async def test_a_range_by_what_went_wrong(rig: EventsRig) -> None:
    await record(rig, 2)
    bad, dead = stored_event(T0 + 5, rig.shop.id), stored_event(T0 + 6, rig.shop.id, body=b"findme")
    await rig.history.record(
        [news(bad, "answered", delivered(bad, status=500)), news(dead, "dead", delivered(dead, status=0))]
    )
    assert (await replay(rig, failed=True))["queued"] == [bad.id, dead.id]
    assert (await replay(rig, state=["dead"]))["queued"] == [dead.id]
    assert (await replay(rig, grep="FindMe", since=at(0)))["queued"] == [dead.id]


async def test_more_than_one_call_may_do_goes_on_where_it_ended(
    rig: EventsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "MAX_EVENTS", 5)
    monkeypatch.setattr(replays, "PAGE", 3)
    events = await record(rig, 13)
    queued: list[str] = []
    calls = 0
    more: dict[str, str] = {}
    while True:
        told = await replay(rig, since=at(0), **more)
        queued += told["queued"]
        calls += 1
        if told["next"] is None:
            break
        more = {"after": told["next"]}
    assert queued == [event.id for event in events]
    assert calls == 3


async def test_what_waits_already_is_skipped_in_a_range_and_not_when_named(rig: EventsRig) -> None:
    (first,) = await record(rig, 1)
    waits = stored_event(T0 + 1, rig.shop.id)
    await rig.history.record([news(waits, "buffered")])
    told = await replay(rig, since=at(0))
    assert told["queued"] == [first.id]
    assert told["skipped"] == [{"event": waits.id, "reason": "still-waiting"}]
    assert (await replay(rig, since=at(0), state=["buffered"]))["queued"] == [waits.id]
    assert (await replay(rig, events=[waits.id]))["queued"] == [waits.id]


async def test_what_cannot_be_replayed_is_named(rig: EventsRig) -> None:
    lost = stored_event(T0, rig.shop.id, body=None, body_size=9)
    kept = stored_event(T0 + 1, rig.shop.id)
    await rig.history.record([news(lost, "answered"), news(kept, "answered")])
    gone = new_id("evt")
    told = await replay(rig, events=[gone, lost.id, kept.id])
    assert told["queued"] == [kept.id]
    assert told["skipped"] == [
        {"event": gone, "reason": "unknown-event"},
        {"event": lost.id, "reason": "body-not-kept"},
    ]


async def test_a_large_body_goes_by_the_blob_place(rig: EventsRig) -> None:
    body = bytes(range(256)) * 2_000
    (event,) = await record(rig, 1, body=body)
    assert (await replay(rig, events=[event.id]))["queued"] == [event.id]
    (entry,) = await rig.queued()
    assert (entry.event.body, entry.event.body_size) == (None, len(body))
    assert await rig.blobs.get(event.id) == body


async def test_a_full_queue_ends_it_and_the_answer_says_where(rig: EventsRig) -> None:
    events = await record(rig, 4)
    await rig.limit(max_count=4)  # of which replays may take half
    ids = [event.id for event in events]
    told = await replay(rig, since=at(0))
    assert (told["queued"], told["stopped"], told["next"]) == (ids[:2], "queue-full", ids[1])
    problem = await replay(rig, 503, events=ids)
    assert problem["type"] == "urn:whook:problem:queue-full"
    await rig.limit(max_count=8)
    told = await replay(rig, events=ids)
    assert (told["queued"], told["stopped"]) == (ids[:2], "queue-full")
    await rig.limit(max_count=100)
    told = await replay(rig, since=at(0), after=ids[1])
    assert (told["queued"], told["stopped"], told["next"]) == (ids[2:], None, None)


async def test_a_queue_that_is_gone_is_503_and_in_the_middle_it_is_told(
    rig: EventsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = await record(rig, 3)
    append, left = rig.queue.append, 1

    async def one_more(event: StoredEvent, limits: QueueLimits, **more: Any) -> None:
        nonlocal left
        if not left:
            raise Unavailable("the queue is gone")
        left -= 1
        await append(event, limits, **more)

    monkeypatch.setattr(rig.queue, "append", one_more)
    told = await replay(rig, since=at(0))
    assert (told["queued"], told["stopped"]) == ([events[0].id], "unavailable")
    assert told["next"] == events[0].id
    assert (await replay(rig, 503, since=at(0)))["type"] == "urn:whook:problem:unavailable"


async def test_a_search_that_ends_early_goes_on(rig: EventsRig, monkeypatch: pytest.MonkeyPatch) -> None:
    events = await record(rig, 4)
    find = rig.quiet_history.find

    async def costly(project_id: str, query: EventQuery) -> Found:
        """Look at one event for each question."""
        found = await find(
            project_id, EventQuery(after=query.after, oldest_first=query.oldest_first, limit=1)
        )
        if found:
            found.scanned_to = found[0].id
        return found

    monkeypatch.setattr(rig.quiet_history, "find", costly)
    assert (await replay(rig, grep="/"))["queued"] == [event.id for event in events]


UNASKABLE: list[dict[str, Any]] = [
    {},
    {"events": []},
    {"events": ["nonsense"]},
    {"events": [new_id("evt")], "since": at(0)},
    {"events": [new_id("evt")], "failed": True},
    {"since": "yesterday"},
    {"since": at(0), "unknown": 1},
    {"state": ["lost"]},
    {"events": [new_id("evt")] * 1_001},
]


async def test_what_cannot_be_asked_is_422(rig: EventsRig) -> None:
    for wanted in UNASKABLE:
        assert (await replay(rig, 422, **wanted))["type"] == "urn:whook:problem:invalid-request"
