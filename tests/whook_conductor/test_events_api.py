"""The events API: lists, details, exact bytes, the backlog; over real sockets, on the real stores."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.events_rig import EventsRig, open_events_rig
from tests.support.history import delivered, news, stored_event
from whook.backplane.ports import QueueLimits, Record, StoredEvent
from whook.chassis.ids import new_id

T0 = 1_790_000_000.0
LIMITS = QueueLimits(
    project_count=100, project_bytes=1 << 30, project_age=1e9, total_count=100, total_bytes=1 << 30
)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncGenerator[EventsRig, None]:
    async with open_events_rig(tmp_path) as rig:
        yield rig


def shop_event(rig: EventsRig, at: float = T0, **fields: Any) -> StoredEvent:
    return stored_event(at, rig.shop.id, project="shop", **fields)


async def record(rig: EventsRig, *records: Record) -> None:
    await rig.history.record(list(records))


def answered(event: StoredEvent, **delivery: Any) -> Record:
    return news(event, "answered", delivered(event, **delivery))


def assert_problem(response: Any, status: int, slug: str) -> None:
    assert (response.status_code, response.json()["type"]) == (status, f"urn:whook:problem:{slug}")


async def test_a_list_shows_the_newest_first(rig: EventsRig) -> None:
    events = [shop_event(rig, T0 + n, target=b"/%d" % n) for n in range(3)]
    await record(rig, *(answered(event) for event in events))
    told = await rig.get("/projects/shop/events")
    assert [one["target"] for one in told["events"]] == ["/2", "/1", "/0"]
    assert told["next"] is None
    last = told["events"][0]
    assert last == {
        "id": events[2].id,
        "sequence": last["sequence"],
        "project": "shop",
        "received_at": datetime.fromtimestamp(T0 + 2, UTC).isoformat().replace("+00:00", "Z"),
        "method": "POST",
        "target": "/2",
        "peer": "192.0.2.7",
        "body_size": 10,
        "state": "answered",
        "deliveries": 1,
        "last_status": 200,
        "last_problem": None,
        "last_duration": 0.5,
    }


async def test_pages_follow_one_another_in_both_orders(rig: EventsRig) -> None:
    events = [shop_event(rig, T0 + n) for n in range(5)]
    await record(rig, *(answered(event) for event in events))
    ids = [event.id for event in events]
    for order, wanted in (("oldest", ids), ("newest", ids[::-1])):
        found: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = await rig.get("/projects/shop/events", order=order, limit=2, **after)
            found += [one["id"] for one in page["events"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert found == wanted


async def test_filters(rig: EventsRig) -> None:
    good, bad, dead, waits = (shop_event(rig, T0 + n, body=b"%d Apple" % n) for n in range(4))
    await record(
        rig,
        answered(good),
        answered(bad, status=500),
        news(dead, "dead", delivered(dead, status=0)),
        news(waits, "buffered"),
    )

    async def ids(**params: Any) -> list[str]:
        return [one["id"] for one in (await rig.get("/projects/shop/events", **params))["events"]]

    assert await ids(failed="true") == [dead.id, bad.id]
    assert await ids(state="dead") == [dead.id]
    assert await ids(state=["dead", "buffered"]) == [waits.id, dead.id]
    assert await ids(grep="2 aPPLE") == [dead.id]
    assert await ids(grep="x-sig: ") == [waits.id, dead.id, bad.id, good.id]
    at = datetime.fromtimestamp(T0 + 1, UTC).isoformat()
    assert await ids(until=at) == [good.id]
    assert await ids(since=at, state="answered") == [bad.id]


UNASKABLE: list[dict[str, Any]] = [
    {"limit": 0},
    {"limit": 201},
    {"state": "lost"},
    {"order": "random"},
    {"since": "yesterday"},
    {"since": "2026-11-23T20:00:00"},
    {"after": "evt_1"},
    {"grep": "a\0"},
    {"grep": "a" * 201},
]


async def test_what_cannot_be_asked_is_422(rig: EventsRig) -> None:
    for params in UNASKABLE:
        assert_problem(await rig.ask("GET", "/projects/shop/events", params=params), 422, "invalid-request")


async def test_a_detail_has_the_request_and_every_delivery(rig: EventsRig) -> None:
    event = shop_event(rig, trailers=[(b"X-Sum", b"\xfe")])
    first = delivered(event, 1, status=0)
    second = delivered(event, 2)
    await record(rig, news(event, "buffered", first), news(event, "answered", second, at=T0 + 1, known=True))
    for path in (f"/projects/shop/events/{event.id}", f"/events/{event.id}"):
        told = await rig.get(path)
        assert told["state"] == "answered"
        assert told["request"] == {
            "version": "1.1",
            "scheme": "https",
            "headers": [["Host", "shop.example"], ["X-Sig", "\xe9=1"], ["x-sig", "2"]],
            "body": {"size": 10, "encoding": "base64", "content": "eyJuIjogMX0A/w=="},
            "trailers": [["X-Sum", "\xfe"]],
        }
        one, two = told["history"]
        assert (one["attempt"], one["origin"], one["status"], one["problem"]) == (
            1,
            "live",
            None,
            "tunnel-lost",
        )
        assert one["response"] is None
        assert (two["attempt"], two["origin"], two["to_head"], two["duration"]) == (2, "buffered", 0.25, 0.5)
        assert two["response"] == {
            "status": 200,
            "reason": "OK",
            "headers": [["A", "\xff"]],
            "body": {"size": 2, "encoding": "utf-8", "content": "ok"},
            "trailers": [],
        }


async def test_raw_is_byte_exact(rig: EventsRig) -> None:
    event = shop_event(rig)
    await record(rig, answered(event))
    response = await rig.ask("GET", f"/projects/shop/events/{event.id}/raw")
    assert response.status_code == 200
    assert response.headers["content-type"] == "message/http"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.content == (
        b"POST /hook?a=%20b HTTP/1.1\r\nHost: shop.example\r\nX-Sig: \xe9=1\r\nx-sig: 2\r\n\r\n"
        b'{"n": 1}\x00\xff'
    )
    response = await rig.ask("GET", f"/projects/shop/events/{event.id}/body")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.content == event.body


async def test_a_chunked_request_is_one_chunk_with_its_trailers(rig: EventsRig) -> None:
    event = shop_event(
        rig,
        headers=[(b"Host", b"h"), (b"Transfer-Encoding", b"chunked")],
        trailers=[(b"X-Sum", b"1")],
        version=b"1.1",
        target=b"/",
        body=b"0123456789abcdef",
    )
    await record(rig, answered(event))
    response = await rig.ask("GET", f"/projects/shop/events/{event.id}/raw")
    assert response.content == (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"10\r\n0123456789abcdef\r\n0\r\nX-Sum: 1\r\n\r\n"
    )


async def test_a_large_body_is_told_by_its_size_and_given_whole(rig: EventsRig) -> None:
    body = bytes(range(256)) * 8_000
    event = shop_event(rig, body=body)
    await record(rig, answered(event))
    told = await rig.get(f"/events/{event.id}")
    assert told["request"]["body"] == {"size": len(body), "encoding": None, "content": None}
    assert (await rig.ask("GET", f"/projects/shop/events/{event.id}/body")).content == body
    assert (await rig.ask("GET", f"/projects/shop/events/{event.id}/raw")).content.endswith(body)


async def test_a_body_in_the_blob_place_is_found_there(rig: EventsRig) -> None:
    event = shop_event(rig, body=None, body_size=300_000)
    await rig.blobs.put(event.id, b"b" * 300_000)
    await record(rig, news(event, "buffered"))
    response = await rig.ask("GET", f"/projects/shop/events/{event.id}/body")
    assert response.content == b"b" * 300_000


async def test_a_body_that_was_not_kept_is_410(rig: EventsRig) -> None:
    event = shop_event(rig, body=None, body_size=5)
    await record(rig, answered(event))
    for what in ("raw", "body"):
        response = await rig.ask("GET", f"/projects/shop/events/{event.id}/{what}")
        assert_problem(response, 410, "body-not-kept")
    told = await rig.get(f"/events/{event.id}")
    assert told["request"]["body"] == {"size": 5, "encoding": None, "content": None}


async def test_an_event_without_a_body_has_an_empty_one(rig: EventsRig) -> None:
    event = shop_event(rig, body=b"", method=b"GET")
    await record(rig, answered(event))
    response = await rig.ask("GET", f"/projects/shop/events/{event.id}/body")
    assert (response.status_code, response.content) == (200, b"")
    assert (await rig.ask("GET", f"/projects/shop/events/{event.id}/raw")).content.endswith(b"\r\n\r\n")


async def test_an_unknown_event_is_404(rig: EventsRig) -> None:
    for event in ("nonsense", "evt_1", new_id("evt"), new_id("prj")):
        for path in (
            f"/events/{event}",
            f"/projects/shop/events/{event}",
            f"/projects/shop/events/{event}/raw",
            f"/projects/shop/events/{event}/body",
        ):
            assert_problem(await rig.ask("GET", path), 404, "unknown-event")


async def test_the_backlog(rig: EventsRig) -> None:
    assert await rig.get("/projects/shop/backlog") == {"count": 0, "bytes": 0, "oldest_at": None}
    await rig.queue.append(shop_event(rig), LIMITS)
    told = await rig.get("/projects/shop/backlog")
    assert told["count"] == 1
    assert told["bytes"] >= 10
    assert datetime.fromisoformat(told["oldest_at"]) == datetime.fromtimestamp(T0, UTC)


async def test_without_a_queue_there_is_no_backlog_and_no_replay(tmp_path: Path) -> None:
    async with open_events_rig(tmp_path, queue=False) as rig:
        assert_problem(await rig.ask("GET", "/projects/shop/backlog"), 409, "no-queue")
        wanted = {"events": [new_id("evt")]}
        assert_problem(await rig.ask("POST", "/projects/shop/replays", json=wanted), 409, "no-queue")


async def test_what_an_earlier_project_of_the_name_stored_is_not_found(rig: EventsRig) -> None:
    """Events belong to the project's id: a name that was given up and claimed again has another."""
    event = shop_event(rig)
    await record(rig, answered(event))
    owner = await rig.store.owner("shop")
    assert owner is not None
    assert await rig.store.delete_project("shop", rig.auth.trail.entry("test"))
    assert_problem(await rig.ask("GET", "/projects/shop/events"), 404, "unknown-project")
    project_id, now = new_id("prj"), datetime.now(UTC)
    await rig.store.claim_project("shop", owner, now, rig.auth.trail.entry("test"), project_id=project_id)
    # The row of the earlier project is still there: the bus has lost the news.
    assert_problem(await rig.ask("GET", "/projects/shop/events"), 404, "unknown-project")
    await rig.projects.create("shop", project_id)
    assert (await rig.get("/projects/shop/events"))["events"] == []
    assert_problem(await rig.ask("GET", f"/projects/shop/events/{event.id}"), 404, "unknown-event")
    assert_problem(await rig.ask("GET", f"/events/{event.id}"), 404, "unknown-event")
