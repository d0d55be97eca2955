"""What cannot be delivered is stored, then acknowledged; and when neither can be done, the sender is told."""

from __future__ import annotations

import dataclasses
import json

import pytest
import trio
import trio.testing

from tests.support.async_http import get, post, request
from tests.support.conductor import Rig, answer, open_conductor, read_body
from tests.support.deadlines import DEADLINE
from tests.support.rawhttp import Message
from whook.backplane.ports import ProjectPolicy, Queued, StoredEvent, Unavailable
from whook.chassis.metrics import REGISTRY
from whook.link import Exchange
from whook.wire import ResetCode

HELD = ProjectPolicy(retry_base=3600.0)
"""Nothing is tried a second time while a test looks at the queue."""


def slug(response: Message) -> str:
    return str(json.loads(response.body)["type"]).removeprefix("urn:whook:problem:")


async def waiting(rig: Rig, name: str = "idle") -> list[Queued]:
    """Read what waits, as another owner would."""
    await rig.queue.attend("test", 60.0)
    with trio.fail_after(DEADLINE):
        while (ownership := await rig.queue.acquire(f"prj_{name}", "test")) is None:
            await trio.testing.wait_all_tasks_blocked(0.005)
    batch = await rig.queue.read(ownership, limit=1000, max_bytes=10**9, in_order=False)
    await rig.queue.release(ownership)
    return batch.entries


async def events(rig: Rig, name: str = "idle") -> list[StoredEvent]:
    return [entry.event for entry in await waiting(rig, name)]


async def test_a_webhook_without_a_tunnel_is_stored_as_it_came_and_acknowledged() -> None:
    data = request(
        "POST",
        "/a%20b?x=1&x=2",
        "X-Odd:  two  spaces",
        "x-odd: again",
        "Content-Length: 3",
        host="idle.localhost",
    )
    async with open_conductor() as rig, rig.client() as client:
        await rig.projects.create("idle")
        for _ in range(2):
            await client.send(data + b"a\0b")
            response = await client.read_response()
            assert response.status == 202
            assert response.value(b"content-type") == b"application/json"
            said = json.loads(response.body)
            assert said == {"event_id": said["event_id"], "status": "buffered"}
            assert response.value(b"whook-event-id") == said["event_id"].encode()
        outcome = await rig.outcome()
        assert (outcome.result, outcome.slug, outcome.status) == ("buffered", "no-tunnel", 202)
        first, second = await waiting(rig)
        assert second.event.id == said["event_id"]
        event = first.event
        assert (event.method, event.target, event.body, event.body_size) == (
            b"POST",
            b"/a%20b?x=1&x=2",
            b"a\0b",
            3,
        )
        assert [pair for pair in event.headers if pair[0].lower() == b"x-odd"] == [
            (b"X-Odd", b"two  spaces"),
            (b"x-odd", b"again"),
        ]
        assert (event.project, event.project_id, event.peer, event.version) == (
            "idle",
            "prj_idle",
            "127.0.0.1",
            b"1.1",
        )
        assert (first.attempt, first.origin) == (1, "buffered")


async def test_other_methods_and_other_policies_are_refused() -> None:
    async with open_conductor() as rig:
        await rig.projects.create("idle")
        assert (await rig.ask(get(host="idle.localhost"))).status == 503
        policy = ProjectPolicy(
            buffer_methods=("PUT",),
            buffered_status=200,
            buffered_body="[accepted]",
            buffered_content_type="text/plain",
        )
        await rig.projects.set_policy("prj_idle", policy)
        await trio.testing.wait_all_tasks_blocked()
        assert (await rig.ask(post(b"x", host="idle.localhost"), b"POST")).status == 503
        response = await rig.ask(request("PUT", "/", "Content-Length: 0", host="idle.localhost"), b"PUT")
        assert (response.status, response.body) == (200, b"[accepted]")
        assert response.value(b"content-type") == b"text/plain"
        assert len(await events(rig)) == 1


async def test_a_body_that_comes_in_pieces_is_taken_whole_with_its_trailers() -> None:
    async with open_conductor() as rig, rig.client() as client:
        await rig.projects.create("idle")
        await client.send(
            request("POST", "/", "Transfer-Encoding: chunked", "Expect: 100-continue", host="idle.localhost")
        )
        assert (await client.read_response()).status == 100
        await client.send(b"3\r\nabc\r\n")
        await client.send(b"3\r\ndef\r\n0\r\nX-Sum: 6\r\n\r\n")
        assert (await client.read_response()).status == 202
        await client.send(post(b"next", host="idle.localhost"))
        assert (await client.read_response()).status == 202
        [event, _] = await events(rig)
        assert (event.body, event.trailers) == (b"abcdef", [(b"X-Sum", b"6")])


async def test_a_sender_that_goes_away_before_its_end_is_not_stored() -> None:
    async with open_conductor() as rig:
        await rig.projects.create("idle")
        async with rig.client() as client:
            await client.send(request("POST", "/", "Content-Length: 6", host="idle.localhost"), b"abc")
            await client.end()
            assert (await client.ending()) in {"end", "reset"}
        assert (await rig.outcome()).slug == "sender-gone"
        assert await rig.queue.backlogs() == {}


@pytest.mark.parametrize(
    ("code", "attempts"),
    [
        (ResetCode.TUNNEL_LOST, 2),
        (ResetCode.INTERNAL, 2),
        (ResetCode.OVERLOADED, 1),
        (ResetCode.DRAINING, 1),
    ],
)
async def test_what_a_lost_tunnel_did_not_answer_is_stored(code: ResetCode, attempts: int) -> None:
    seen: list[int] = []

    async def handler(exchange: Exchange) -> None:
        await read_body(exchange)
        seen.append(exchange.request.attempt)
        if exchange.request.origin == "live":
            exchange.reset(code)
        else:
            await answer(exchange)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(post(b"x" * 300_000))
        response = await client.read_response()
        assert response.status == 202, response.body
        assert (await rig.outcome()).result == "buffered"
        delivered = await rig.outcome()
        assert (delivered.origin, delivered.result, delivered.attempt) == ("buffered", "answered", attempts)
        assert seen == [1, attempts]


async def test_what_was_streamed_to_a_tunnel_that_died_is_stored_whole() -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request.origin == "live":
            got = 0
            while got < 1_000_000:
                item = await exchange.receive()
                got += len(getattr(item, "data", b""))
            rig.far.cut()
            await trio.sleep_forever()
        bodies.append((await read_body(exchange))[0])
        await answer(exchange)

    body = bytes(range(256)) * 8_000
    bodies: list[bytes] = []
    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(post(body[:1_500_000], host="shop.localhost").replace(b"1500000", b"2048000"))
        await client.send(body[1_500_000:])
        assert (await client.read_response()).status == 202
        assert (await rig.outcome()).slug == "tunnel-lost"
        assert (await rig.outcome()).result == "answered"
        assert bodies == [body]


async def test_a_body_beyond_what_is_kept_is_refused_and_not_acknowledged() -> None:
    async def handler(exchange: Exchange) -> None:
        await read_body(exchange)
        exchange.reset(ResetCode.TUNNEL_LOST)

    sizes = {"max_buffered_body": 400_000, "max_kept_bodies": 100_000}
    async with open_conductor(handler, policy=HELD, **sizes) as rig, rig.client() as client:
        await client.send(post(b"x" * 500_000))  # longer than is stored
        assert (await client.read_response()).status == 502
        await client.send(post(b"x" * 399_000))  # no room to keep it
        assert (await client.read_response()).status == 502
        await client.send(request("POST", "/", "Transfer-Encoding: chunked", host="idle.localhost"))
        await rig.projects.create("idle")
        await client.send(b"61A81\r\n" + b"x" * 400_001 + b"\r\n0\r\n\r\n")
        assert (await client.read_response()).status == 503
        assert await rig.queue.backlogs() == {}
        response = await rig.ask(post(b"x" * 300_000), b"POST")
        assert response.status == 202, "the budget was not given back"


async def test_no_answer_within_the_deadline_is_stored_once_and_acknowledged() -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request.origin == "live":
            await trio.sleep_forever()
        bodies.append((await read_body(exchange))[0])
        await answer(exchange)

    bodies: list[bytes] = []
    async with open_conductor(handler, request_deadline=0.5) as rig:
        for body in (b"small", b"x" * 1_000_000):
            async with rig.client() as client:
                await client.send(post(body))
                response = await client.read_response()
                assert (response.status, response.value(b"connection")) == (202, b"close")
                assert await client.ending() == "end"
            outcome = await rig.outcome()
            assert (outcome.result, outcome.slug) == ("buffered", "deadline-exceeded")
            delivered = await rig.outcome()
            assert (delivered.result, delivered.attempt) == ("answered", 2)
        assert bodies == [b"small", b"x" * 1_000_000]
        await rig.settled()


async def test_a_limit_is_met_exactly_and_named() -> None:
    async with (
        open_conductor(policy=ProjectPolicy(max_count=3), max_buffered_count=5) as rig,
        rig.client() as client,
    ):
        for name in ("idle", "other"):
            await rig.projects.create(name)
        for name, allowed, limit in (("idle", 3, "project-count"), ("other", 2, "total-count")):
            for _ in range(allowed):
                await client.send(post(b"x", host=f"{name}.localhost"))
                assert (await client.read_response()).status == 202
            for _ in range(2):
                await client.send(post(b"x", host=f"{name}.localhost"))
                response = await client.read_response()
                assert (response.status, slug(response)) == (503, "queue-full")
                assert response.values(b"retry-after")
                assert json.loads(response.body)["limit"] == limit
            refused = {"reason": limit}
            assert REGISTRY.get_sample_value("whook_buffer_refused_total", refused) == 2
        assert REGISTRY.get_sample_value("whook_buffered_total") == 5
        assert len(await events(rig)) == 3


async def test_a_queue_that_does_not_answer_is_503_and_nothing_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise Unavailable("the disk is full")

    async def stuck(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    async with open_conductor(queue_timeout=0.05) as rig, rig.client() as client:
        await rig.projects.create("idle")
        for append in (broken, stuck):
            monkeypatch.setattr(rig.queue, "append", append)
            await client.send(post(b"x", host="idle.localhost"))
            response = await client.read_response()
            assert (response.status, slug(response)) == (503, "queue-unavailable")
            assert response.values(b"retry-after")
        refused = {"reason": "unavailable"}
        assert REGISTRY.get_sample_value("whook_buffer_refused_total", refused) == 2
        monkeypatch.undo()
        await client.send(post(b"x", host="idle.localhost"))
        assert (await client.read_response()).status == 202


async def test_a_long_body_is_stored_apart_and_goes_if_the_event_was_refused() -> None:
    policy = ProjectPolicy(max_count=1)
    async with open_conductor(policy=policy) as rig, rig.client() as client:
        await rig.projects.create("idle")
        body = b"y" * 262_145
        await client.send(post(body, host="idle.localhost"))
        assert (await client.read_response()).status == 202
        await client.send(post(body, host="idle.localhost"))
        response = await client.read_response()
        assert response.status == 503
        [event] = await events(rig)
        assert (event.body, event.body_size) == (None, len(body))
        assert await rig.stored.blobs.get(event.id) == body
        refused = (json.loads(response.body))["event_id"]
        assert await rig.stored.blobs.get(refused) is None


async def test_a_draining_conductor_stores_what_still_comes() -> None:
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await go_on.wait()
        exchange.reset(ResetCode.TUNNEL_LOST)

    async with open_conductor(handler, policy=HELD) as rig, rig.client() as under_way, rig.client() as late:
        await under_way.send(post(b"x"))
        await late.send(b"POST / HTTP/1.1\r\n")
        with trio.fail_after(DEADLINE):
            while not rig.far.running:
                await trio.testing.wait_all_tasks_blocked(0.001)
        rig.drain.begin("the test wants it")
        await late.send(b"Host: shop.localhost\r\nContent-Length: 0\r\n\r\n")
        go_on.set()
        for client in (under_way, late):
            response = await client.read_response()
            assert (response.status, response.value(b"connection")) == (202, b"close")
        await rig.ended.wait()
        assert len(await events(rig, "shop")) == 2


async def test_new_webhooks_queue_behind_those_that_wait() -> None:
    held = trio.Event()
    order: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        await held.wait()
        order.append(exchange.request.target)
        await answer(exchange)

    async with open_conductor(handler, tunnels=()) as rig, rig.client() as client:
        await rig.projects.create("shop")
        await client.send(post(b"x", "/1"))
        assert (await client.read_response()).status == 202
        await rig.claim("shop")
        await client.send(post(b"x", "/2"))
        assert (await client.read_response()).status == 202, "it went past the one that waits"
        async with rig.client() as other:
            await other.send(get("/get"))  # no method that is stored
            held.set()
            assert (await other.read_response()).status == 200
        with trio.fail_after(DEADLINE):
            while await rig.queue.backlogs():
                await trio.testing.wait_all_tasks_blocked(0.005)
        await trio.testing.wait_all_tasks_blocked()
        await client.send(post(b"x", "/3"))
        assert (await client.read_response()).status == 200, "nothing waits any more"
        assert [target for target in order if target != b"/get"] == [b"/1", b"/2", b"/3"]


async def test_live_first_does_not_queue() -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request.origin == "buffered":
            await trio.sleep_forever()
        await answer(exchange)

    policy = dataclasses.replace(HELD, order="live-first")
    async with open_conductor(handler, tunnels=(), policy=policy) as rig, rig.client() as client:
        await rig.projects.create("shop")
        await client.send(post(b"x", "/1"))
        assert (await client.read_response()).status == 202
        await rig.claim("shop")
        await trio.testing.wait_all_tasks_blocked()
        await client.send(post(b"x", "/2"))
        assert (await client.read_response()).status == 200


@pytest.mark.parametrize(("head_of_line", "status"), [("skip", 200), ("block", 202)])
async def test_what_only_waits_for_its_retry_holds_nobody_up_unless_it_is_to(
    head_of_line: str, status: int
) -> None:
    async def handler(exchange: Exchange) -> None:
        bad = exchange.request.target == b"/bad"
        await answer(exchange, status=500 if bad else 200)

    policy = dataclasses.replace(HELD, head_of_line=head_of_line)
    async with open_conductor(handler, tunnels=(), policy=policy) as rig, rig.client() as client:
        await rig.projects.create("shop")
        await client.send(post(b"x", "/bad"))
        assert (await client.read_response()).status == 202
        await rig.claim("shop")
        buffered, failed = await rig.outcome(), await rig.outcome()
        assert (buffered.result, failed.status, failed.origin) == ("buffered", 500, "buffered")
        await trio.testing.wait_all_tasks_blocked(0.2)
        await client.send(post(b"x", "/good"))
        assert (await client.read_response()).status == status
        assert (await rig.queue.backlog("prj_shop")).count == (2 if status == 202 else 1)
