"""The backlog being worked off: order, retries, dead letters, tunnels that go, owners that change."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.support.async_http import post
from tests.support.backlog import buffer, emptied, event
from tests.support.conductor import answer, head, open_conductor, read_body
from tests.support.conductor_stores import open_stored
from tests.support.deadlines import DEADLINE
from whook.backplane.memory import open_memory_backplane
from whook.backplane.ports import EventQuery, ProjectPolicy, QueueLimits, Unavailable
from whook.chassis.metrics import REGISTRY
from whook.link import Exchange
from whook.wire import ResetCode

QUICK = ProjectPolicy(retry_base=0.01, retry_cap=0.02)
PLENTY = QueueLimits(
    project_count=10**6, project_bytes=10**12, project_age=1e9, total_count=10**6, total_bytes=10**12
)


async def test_a_backlog_is_delivered_in_order_as_it_came() -> None:
    got: list[tuple[str, bytes]] = []
    fields: list[dict[bytes, bytes]] = []
    remaining: list[int] = []

    async def handler(exchange: Exchange) -> None:
        body, _ = await read_body(exchange)
        got.append((exchange.request.event_id, body))
        fields.append(dict(exchange.request.headers))
        remaining.append(exchange.request.remaining)
        await answer(exchange)

    async with open_conductor(handler, tunnels=()) as rig:
        targets = [f"/{number}" for number in range(150)]
        ids = await buffer(rig, *targets)
        await rig.claim("shop")
        await emptied(rig)
        assert got == [(event_id, target.encode()) for event_id, target in zip(ids, targets, strict=True)]
        assert fields[0][b"Whook-Event-Id"] == ids[0].encode()
        assert fields[0][b"Whook-Attempt"] == b"1"
        assert fields[0][b"X-Forwarded-For"] == b"127.0.0.1"
        assert remaining == list(range(149, -1, -1))
        assert REGISTRY.get_sample_value("whook_deliveries_total", {"result": "answered"}) == 150


async def test_a_window_delivers_several_at_a_time() -> None:
    together = trio.Event()
    running = most = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 4:
            together.set()
        await together.wait()
        running -= 1
        await answer(exchange)

    async with open_conductor(handler, tunnels=(), policy=ProjectPolicy(window=4)) as rig:
        await buffer(rig, *(f"/{number}" for number in range(12)))
        await rig.claim("shop")
        await emptied(rig)
        assert most == 4


async def test_new_ones_that_keep_coming_are_delivered_in_their_turn() -> None:
    got: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        got.append(exchange.request.target)
        await answer(exchange)

    async with open_conductor(handler, tunnels=()) as rig:
        await buffer(rig, *(f"/{number}" for number in range(40)))
        await rig.claim("shop")
        live = buffered = 0
        async with rig.client() as client:
            for number in range(40, 120):
                await client.send(post(b"", f"/{number}"))
                if (await client.read_response()).status == 202:
                    buffered += 1
                else:
                    live += 1
        await emptied(rig)
        assert got == [f"/{number}".encode() for number in range(120)]
        assert (buffered > 0, live > 0) == (True, True)


@pytest.mark.parametrize("how", ["500", "429", "408", "reset", "late"])
async def test_a_failed_delivery_is_tried_again(how: str) -> None:
    attempts: list[int] = []

    async def handler(exchange: Exchange) -> None:
        attempts.append(exchange.request.attempt)
        if len(attempts) < 3:
            if how == "reset":
                exchange.reset(ResetCode.INTERNAL)
            elif how == "late":
                await trio.sleep_forever()
            else:
                await answer(exchange, status=int(how))
            return
        await answer(exchange)

    async with open_conductor(handler, tunnels=(), policy=QUICK, request_deadline=0.2) as rig:
        await buffer(rig, "/1")
        await rig.claim("shop")
        await emptied(rig)
        assert attempts == [1, 2, 3]
        assert REGISTRY.get_sample_value("whook_deliveries_total", {"result": "failed"}) == 2
        outcomes = [await rig.outcome() for _ in range(4)]
        assert [outcome.attempt for outcome in outcomes[1:]] == [1, 2, 3]
        assert all(outcome.event is not None for outcome in outcomes)
        response = outcomes[-1].response
        assert response is not None
        assert (response.status, response.body) == (200, b"ok")


@pytest.mark.parametrize("status", [200, 302, 400, 404, 410])
async def test_what_the_local_server_decided_is_delivered(status: int) -> None:
    async def handler(exchange: Exchange) -> None:
        await answer(exchange, status=status)

    async with open_conductor(handler, tunnels=(), policy=QUICK) as rig:
        await buffer(rig, "/1")
        await rig.claim("shop")
        await emptied(rig)
        assert REGISTRY.get_sample_value("whook_deliveries_total", {"result": "answered"}) == 1


async def test_retry_after_is_kept_up_to_the_policys_cap() -> None:
    async def handler(exchange: Exchange) -> None:
        head(exchange, 503, (b"Retry-After", b"600"), (b"Content-Length", b"0"), end=True)

    policy = dataclasses.replace(QUICK, retry_cap=300.0)
    async with open_conductor(handler, tunnels=(), policy=policy) as rig:
        await buffer(rig, "/1")
        await rig.claim("shop")
        await rig.outcome()
        failed = await rig.outcome()
        assert failed.status == 503
        await trio.testing.wait_all_tasks_blocked(0.1)
        await rig.drain_and_wait()
        await rig.queue.attend("test", 60.0)
        ownership = await rig.queue.acquire("prj_shop", "test")
        assert ownership is not None
        batch = await rig.queue.read(ownership, limit=1, max_bytes=1, in_order=False)
        assert batch.entries == []
        assert batch.next_due is not None
        assert 290.0 < batch.next_due - failed.began_at < 310.0


async def test_an_event_whose_retries_are_used_up_is_recorded_as_dead_before_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise Unavailable("the history is gone")

    async def handler(exchange: Exchange) -> None:
        bad = exchange.request.target == b"/bad"
        await answer(exchange, b"no" if bad else b"ok", status=500 if bad else 200)

    policy = dataclasses.replace(QUICK, max_attempts=3)
    async with open_conductor(handler, tunnels=(), policy=policy) as rig:
        monkeypatch.setattr(rig.stored.history, "record", broken)
        [bad, _] = await buffer(rig, "/bad", "/good")
        await rig.claim("shop")
        with trio.fail_after(DEADLINE):
            while REGISTRY.get_sample_value("whook_deliveries_total", {"result": "hopeless"}) == 0:
                await trio.testing.wait_all_tasks_blocked(0.005)
        assert (await rig.queue.backlog("prj_shop")).count >= 1, "it left although it was not recorded"
        monkeypatch.undo()
        await emptied(rig)
        found = await rig.stored.history.get("prj_shop", bad)
        assert found is not None
        assert (found.summary.state, found.event.body) == ("dead", b"/bad")
        assert {(delivery.status, delivery.origin) for delivery in found.deliveries} == {(500, "buffered")}


@pytest.mark.parametrize("head_of_line", ["skip", "block"])
async def test_what_a_failed_delivery_does_to_those_behind_it(head_of_line: str) -> None:
    got: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        got.append(exchange.request.target)
        fails = exchange.request.target == b"/2" and got.count(b"/2") < 3
        await answer(exchange, status=500 if fails else 200)

    policy = dataclasses.replace(QUICK, head_of_line=head_of_line, retry_base=0.2, retry_cap=0.2)
    async with open_conductor(handler, tunnels=(), policy=policy) as rig:
        await buffer(rig, *(f"/{number}" for number in range(1, 6)))
        await rig.claim("shop")
        await emptied(rig)
        if head_of_line == "block":
            assert got == [b"/1", b"/2", b"/2", b"/2", b"/3", b"/4", b"/5"]
        else:
            assert [target for target in got if target != b"/2"] == [b"/1", b"/3", b"/4", b"/5"]
            assert got.count(b"/2") == 3


async def test_a_tunnel_that_is_lost_is_no_failure_and_costs_no_order() -> None:
    got: list[bytes] = []
    lost = trio.Event()

    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == b"/3" and not lost.is_set():
            await rig.backplane.directory.release("prj_shop", route.generation)
            exchange.reset(ResetCode.TUNNEL_LOST)
            lost.set()
            return
        got.append(exchange.request.target)
        await answer(exchange)

    policy = ProjectPolicy(max_attempts=1)
    async with open_conductor(handler, tunnels=(), policy=policy) as rig:
        await buffer(rig, *(f"/{number}" for number in range(1, 31)))
        route = await rig.claim("shop")
        await lost.wait()
        assert (await rig.queue.backlog("prj_shop")).count > 0
        await rig.claim("shop")
        await emptied(rig)
        assert got == [f"/{number}".encode() for number in range(1, 31)]
        assert await rig.stored.history.find("prj_shop", EventQuery(states=("dead",))) == []


async def test_a_long_body_comes_out_of_the_blob_place() -> None:
    bodies: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        bodies.append((await read_body(exchange))[0])
        await answer(exchange)

    async with open_conductor(handler, tunnels=()) as rig, rig.client() as client:
        await rig.projects.create("shop")
        body = bytes(range(256)) * 10_000
        await client.send(post(body))
        assert (await client.read_response()).status == 202
        await client.send(post(body))
        second = json.loads((await client.read_response()).body)["event_id"]
        await rig.stored.blobs.delete([second])
        await rig.claim("shop")
        await emptied(rig)
        assert bodies == [body]
        [dead] = await rig.stored.history.find("prj_shop", EventQuery(states=("dead",)))
        assert (dead.id, dead.last_problem) == (second, "body-missing")


async def test_replays_go_out_marked() -> None:
    got: list[dict[bytes, bytes]] = []

    async def handler(exchange: Exchange) -> None:
        got.append(dict(exchange.request.headers))
        assert exchange.request.origin == "replay"
        await answer(exchange)

    async with open_conductor(handler) as rig:
        await rig.queue.append(event("shop"), PLENTY, origin="replay", attempts=2)
        await emptied(rig)
        assert got[0][b"Whook-Replay"] == b"1"
        assert got[0][b"Whook-Attempt"] == b"3"


async def test_a_conductor_that_starts_finds_what_waits(tmp_path: Path) -> None:
    async with open_memory_backplane() as backplane, open_stored(backplane.bus, tmp_path) as stored:
        await stored.queue.append(event("shop"), PLENTY)
    got: list[bytes] = []

    async def handler(exchange: Exchange) -> None:
        got.append((await read_body(exchange))[0])
        await answer(exchange)

    async with open_conductor(handler, folder=tmp_path) as rig:
        await emptied(rig)
        assert got == [b"{}"]
