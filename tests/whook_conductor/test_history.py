"""What a conductor records: what was sent and what was answered, byte for byte, whatever became of it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.conductor import REJECT, Rig, answer, echo, head, open_conductor, read_body
from tests.support.deadlines import DEADLINE
from whook.backplane.ports import EventDetail, EventQuery, Project, ProjectPolicy
from whook.link import Exchange
from whook.wire import ResetCode
from whook_conductor import recorder

BODY = bytes(range(256)) * 4


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let batches be small and soon."""
    monkeypatch.setattr(recorder, "GATHER_SECONDS", 0.01)


def post(body: bytes, *fields: bytes, target: bytes = b"/hook?q=%20%C3%A9", host: bytes = b"shop") -> bytes:
    lines = [b"POST %b HTTP/1.1" % target, b"Host: %b.localhost" % host, *fields]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


async def recorded(rig: Rig, count: int = 1, project: str = "prj_shop") -> list[EventDetail]:
    """Wait until so many events are in the history; give them, the oldest first."""
    with trio.fail_after(DEADLINE):
        while len(found := await rig.stored.history.find(project, EventQuery(oldest_first=True))) < count:
            await trio.testing.wait_all_tasks_blocked(0.01)
    details = [await rig.stored.history.get(project, summary.id) for summary in found]
    return [detail for detail in details if detail is not None]


async def state_of(rig: Rig, state: str, project: str = "prj_shop") -> EventDetail:
    """Wait until the one event has that state."""
    with trio.fail_after(DEADLINE):
        while True:
            (event,) = await recorded(rig, project=project)
            if event.summary.state == state:
                return event
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_request_and_response_are_recorded_byte_for_byte() -> None:
    async def handler(exchange: Exchange) -> None:
        await read_body(exchange)
        head(exchange, 201, (b"Content-Length", b"5"), (b"X-A", b" \xff "), (b"x-a", b"2"))
        await exchange.send_data(b"\0\1", end=False)
        await exchange.send_data(b"\2\3\4", end=True)

    async with open_conductor(handler) as rig:
        await rig.ask(
            post(BODY, b"X-Sig: \xe9  two", b"x-sig: again", b"Connection: keep-alive, x-hop"), b"POST"
        )
        (found,) = await recorded(rig)
    event = found.event
    assert (event.method, event.target, event.version) == (b"POST", b"/hook?q=%20%C3%A9", b"1.1")
    assert event.headers == [
        (b"Host", b"shop.localhost"),
        (b"X-Sig", b"\xe9  two"),
        (b"x-sig", b"again"),
        (b"Connection", b"keep-alive, x-hop"),
        (b"Content-Length", b"1024"),
    ]
    assert (event.body, event.body_size, event.peer, event.scheme) == (BODY, 1024, "127.0.0.1", "http")
    assert (event.project, event.project_id, event.trusted) == ("shop", "prj_shop", False)
    (delivery,) = found.deliveries
    assert (delivery.attempt, delivery.origin, delivery.status, delivery.problem) == (1, "live", 201, "")
    assert delivery.began_at == event.received_at
    assert 0 <= delivery.to_head <= delivery.duration
    response = delivery.response
    assert response is not None
    assert response.headers == [(b"Content-Length", b"5"), (b"X-A", b" \xff "), (b"x-a", b"2")]
    assert (response.status, response.reason, response.body) == (201, b"OK", b"\0\1\2\3\4")
    assert found.summary.state == "answered"


async def test_a_chunked_body_with_trailers() -> None:
    data = b"POST / HTTP/1.1\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with open_conductor() as rig, rig.client() as client:
        await client.send(data + b"3\r\nabc\r\n")
        with trio.fail_after(DEADLINE):
            while not rig.far.running:
                await trio.testing.wait_all_tasks_blocked(0.005)
        await client.send(b"2\r\nde\r\n0\r\nX-T: \x80\r\n\r\n")
        await client.read_response()
        (found,) = await recorded(rig)
    assert (found.event.body, found.event.trailers) == (b"abcde", [(b"X-T", b"\x80")])
    assert (b"Transfer-Encoding", b"chunked") in found.event.headers


@pytest.mark.parametrize("size", [262_144, 262_145, 1_000_000])
async def test_a_large_body_is_recorded(size: int) -> None:
    async def handler(exchange: Exchange) -> None:
        await read_body(exchange)
        await answer(exchange)

    body = (BODY * 1000)[:size]
    async with open_conductor(handler) as rig:
        await rig.ask(post(body), b"POST")
        (found,) = await recorded(rig)
    assert found.event.body == body


async def test_what_is_too_large_is_marked_and_the_rest_kept() -> None:
    async with open_conductor(history_max_body=1000) as rig:
        response = await rig.ask(post(b"x" * 1001), b"POST")
        assert response.body == b"x" * 1001
        (found,) = await recorded(rig)
    assert (found.event.body, found.event.body_size) == (None, 1001)
    response_kept = found.deliveries[0].response
    assert response_kept is not None
    assert response_kept.body == b"x" * 1001


async def test_a_long_response_is_not_kept() -> None:
    async def handler(exchange: Exchange) -> None:
        await read_body(exchange)
        await answer(exchange, b"y" * 300_000)

    async with open_conductor(handler) as rig:
        await rig.ask(post(b""), b"POST")
        (found,) = await recorded(rig)
    response = found.deliveries[0].response
    assert response is not None
    assert (response.body, response.body_size) == (None, 300_000)


async def test_a_refused_one_is_recorded_with_its_problem() -> None:
    async with open_conductor(tunnels=(), policy=REJECT) as rig:
        await rig.projects.create("shop")
        response = await rig.ask(post(BODY), b"POST")
        assert response.status == 503
        (found,) = await recorded(rig)
    assert found.event.body == BODY
    assert (found.summary.state, found.summary.last_problem) == ("refused", "no-tunnel")
    assert found.summary.last_status == 0


async def test_a_stranger_leaves_nothing() -> None:
    async with open_conductor() as rig:
        response = await rig.ask(post(BODY, host=b"nobody"), b"POST")
        assert response.status == 404
        await rig.ask(post(b"known"), b"POST")
        await recorded(rig)
        assert (await rig.stored.history.size()).events == 1


async def test_a_response_that_broke_off_is_recorded_so() -> None:
    seen = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await read_body(exchange)
        head(exchange, 200, (b"Content-Length", b"100"))
        await exchange.send_data(b"only this")
        await seen.wait()
        exchange.reset(ResetCode.TUNNEL_LOST)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(post(BODY))
        await client.take_until(b"only this")
        seen.set()
        assert await client.ending() == "reset"
        (found,) = await recorded(rig)
    assert found.event.body == BODY
    (delivery,) = found.deliveries
    assert (delivery.status, delivery.problem) == (200, "tunnel-lost")
    assert delivery.response is not None
    assert delivery.response.body is None
    assert found.summary.state == "refused"


async def test_a_request_that_never_came_whole_has_no_body() -> None:
    async with open_conductor() as rig:
        async with rig.client() as client:
            await client.send(post(BODY)[:-10])
            with trio.fail_after(DEADLINE):
                while not rig.far.running:
                    await trio.testing.wait_all_tasks_blocked(0.005)
        (found,) = await recorded(rig)
    assert (found.event.body, found.event.body_size) == (None, len(BODY) - 10)
    assert found.summary.last_problem == "sender-gone"


async def test_what_waits_is_recorded_and_then_its_deliveries() -> None:
    fails = 1

    async def handler(exchange: Exchange) -> None:
        nonlocal fails
        body, _ = await read_body(exchange)
        fails -= 1
        await answer(exchange, body, 500 if fails >= 0 else 200)

    policy = ProjectPolicy(retry_base=0.01, retry_cap=0.02)
    async with open_conductor(handler, tunnels=(), policy=policy) as rig:
        project: Project = await rig.projects.create("shop")
        assert (await rig.ask(post(BODY), b"POST")).status == 202
        waiting = await state_of(rig, "buffered")
        assert (waiting.event.body, waiting.deliveries) == (BODY, [])
        await rig.claim(project.name)
        done = await state_of(rig, "answered")
    assert done.event == waiting.event
    assert [(d.attempt, d.origin, d.status) for d in done.deliveries] == [
        (1, "buffered", 500),
        (2, "buffered", 200),
    ]
    assert done.deliveries[1].response is not None
    assert done.deliveries[1].response.body == BODY
    assert done.summary.sequence == waiting.summary.sequence


async def test_without_a_history_nothing_is_recorded() -> None:
    async with open_conductor(history=False) as rig:
        await rig.ask(post(BODY), b"POST")
        outcome = await rig.outcome()
        assert (outcome.result, outcome.event, outcome.response) == ("answered", None, None)
        rig.drain.begin("the test is over")
        with trio.fail_after(DEADLINE):
            await rig.ended.wait()
        assert (await rig.stored.history.size()).events == 0


async def test_a_drain_loses_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "GATHER_SECONDS", 1000.0)
    async with open_conductor(echo) as rig:
        for _ in range(20):
            await rig.ask(post(BODY), b"POST")
        rig.drain.begin("the test is over")
        with trio.fail_after(DEADLINE):
            await rig.ended.wait()
        assert (await rig.stored.history.size()).events == 20
