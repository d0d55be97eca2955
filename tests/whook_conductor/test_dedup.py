"""The same webhook twice: acknowledged twice, delivered once, as far as its project wants that."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from tests.support.async_http import post, request
from tests.support.conductor import answer, open_conductor, read_body
from tests.support.deadlines import DEADLINE
from whook.backplane.ports import ProjectPolicy, Unavailable
from whook.link import Exchange
from whook_conductor import dedup

ON = ProjectPolicy(dedup_window=3600.0)
GITHUB = "X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958"


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (GITHUB, b"{}"),
        ("webhook-id: msg_1", b"{}"),
        ("svix-id: msg_2", b"{}"),
        ("Stripe-Signature: t=1,v1=abc", b'{"id": "evt_1NG8Du2eZvKYlo2CUI79vXWy", "object": "event"}'),
    ],
)
async def test_the_known_providers(line: str, body: bytes) -> None:
    delivered = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal delivered
        await read_body(exchange)
        delivered += 1
        await answer(exchange, b"mine")

    async with open_conductor(handler, policy=ON) as rig, rig.client() as client:
        await client.send(post(body, "/hook", line))
        first = await client.read_response()
        assert (first.status, first.body) == (200, b"mine")
        await client.send(post(body, "/hook", line))
        second = await client.read_response()
        said = json.loads(second.body)
        assert (second.status, said["status"]) == (200, "duplicate")
        assert set(said) == {"event_id", "status"}
        assert delivered == 1
        await client.send(post(b"{}", "/hook"))
        assert (await client.read_response()).body == b"mine"


async def test_it_is_off_by_default_and_by_project() -> None:
    async with open_conductor() as rig, rig.client() as client:
        for _ in range(2):
            await client.send(post(b"x", "/hook", GITHUB))
            assert (await client.read_response()).body == b"x"
        await rig.projects.set_policy("prj_shop", ON)
        await rig.claim("other")
        await rig.projects.set_policy("prj_other", ON)
        await trio.testing.wait_all_tasks_blocked()
        for host in ("shop.localhost", "other.localhost"):
            await client.send(post(b"x", "/hook", GITHUB, host=host))
            assert (await client.read_response()).body == b"x"


async def test_a_configured_header_is_the_only_one() -> None:
    policy = ProjectPolicy(dedup_window=3600.0, dedup_header="X-Delivery")
    async with open_conductor(policy=policy) as rig, rig.client() as client:
        for line, expected in ((GITHUB, "x"), (GITHUB, "x"), ("x-delivery: 1", "x"), ("X-Delivery: 1", "")):
            await client.send(post(b"x", "/hook", line))
            response = await client.read_response()
            assert (response.body == b"x") == (expected == "x")


async def test_what_failed_is_delivered_again() -> None:
    statuses = [500, 404, 200]

    async def handler(exchange: Exchange) -> None:
        await read_body(exchange)
        await answer(exchange, status=statuses.pop(0))

    async with open_conductor(handler, policy=ON) as rig, rig.client() as client:
        for expected in (500, 404, 200, 200):
            await client.send(post(b"x", "/hook", GITHUB))
            assert (await client.read_response()).status == expected
        assert statuses == []


async def test_a_second_one_while_the_first_runs_is_told_to_come_again() -> None:
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await go_on.wait()
        await answer(exchange)

    async with open_conductor(handler, policy=ON) as rig, rig.client() as first, rig.client() as second:
        await first.send(post(b"x", "/hook", GITHUB))
        with trio.fail_after(DEADLINE):
            while not rig.far.running:
                await trio.testing.wait_all_tasks_blocked(0.001)
        await second.send(post(b"x", "/hook", GITHUB))
        response = await second.read_response()
        assert response.status == 503
        assert b"duplicate-running" in response.body
        assert response.values(b"retry-after")
        go_on.set()
        assert (await first.read_response()).status == 200


async def test_what_was_stored_is_not_stored_again() -> None:
    async with open_conductor(policy=ON) as rig, rig.client() as client:
        await rig.projects.create("idle")
        for expected in ("buffered", "duplicate"):
            await client.send(
                request("POST", "/", GITHUB, "Content-Length: 3", host="idle.localhost"), b"a", b"bc"
            )
            response = await client.read_response()
            assert json.loads(response.body)["status"] == expected
        assert (await rig.queue.backlog("prj_idle")).count == 1


async def test_a_deadline_that_passed_settles_the_claim() -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request.origin == "live":
            await trio.sleep_forever()
        await answer(exchange)

    async with open_conductor(handler, policy=ON, request_deadline=0.2) as rig:
        first = await rig.ask(post(b"x", "/hook", GITHUB), b"POST")
        assert (first.status, json.loads(first.body)["status"]) == (202, "buffered")
        second = await rig.ask(post(b"x", "/hook", GITHUB), b"POST")
        assert (second.status, json.loads(second.body)["status"]) == (200, "duplicate")


async def test_without_the_queue_webhooks_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise Unavailable("the queue is gone")

    async with open_conductor(policy=ON) as rig, rig.client() as client:
        monkeypatch.setattr(rig.queue, "remember", broken)
        for _ in range(2):
            await client.send(post(b"x", "/hook", GITHUB))
            assert (await client.read_response()).body == b"x"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-GitHub-Delivery", b"a"), (b"x-github-delivery", b"b")],
        [(b"X-GitHub-Delivery", b"")],
        [(b"X-GitHub-Delivery", b"x" * 257)],
        [(b"X-Other", b"a")],
    ],
)
def test_what_is_no_id(headers: list[tuple[bytes, bytes]]) -> None:
    assert dedup.header_id(headers, b"") is None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"id": 1}', b'{"id": "pi_1"}', b"\xff", b"[" * 100_000])
def test_what_is_no_stripe_event(body: bytes) -> None:
    assert dedup.body_id(body) is None
