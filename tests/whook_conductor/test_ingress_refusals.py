"""What is refused: malformed and smuggled requests, limits, and requests that nobody can take."""

from __future__ import annotations

import json

import pytest
import trio

from tests.support.async_http import Client, get, post, request
from tests.support.conductor import REJECT, answer, open_conductor, read_body, relay_info
from tests.support.rawhttp import Message
from whook.chassis.metrics import REGISTRY
from whook.link import Exchange
from whook.wire import ResetCode


def slug(response: Message) -> str:
    problem = json.loads(response.body)
    assert response.value(b"content-type") == b"application/problem+json"
    assert problem["status"] == response.status
    return str(problem["type"]).removeprefix("urn:whook:problem:")


def field(line: str) -> bytes:
    return f"POST / HTTP/1.1\r\nHost: shop.localhost\r\n{line}\r\n\r\n".encode()


REFUSED = {
    "no-host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two-hosts": (b"GET / HTTP/1.1\r\nHost: shop.localhost\r\nHost: shop.localhost\r\n\r\n", 400),
    "bad-host": (b"GET / HTTP/1.1\r\nHost: shop localhost\r\n\r\n", 400),
    "host-contradicts": (b"GET http://a.localhost/ HTTP/1.1\r\nHost: shop.localhost\r\n\r\n", 400),
    "length-and-coding": (field("Content-Length: 3\r\nTransfer-Encoding: chunked"), 400),
    "two-lengths": (field("Content-Length: 3\r\nContent-Length: 4"), 400),
    "listed-length": (field("Content-Length: 3, 3"), 400),
    "signed-length": (field("Content-Length: +3"), 400),
    "space-before-colon": (field("X : y"), 400),
    "folding": (field("X: y\r\n z"), 400),
    "bare-lf": (b"GET / HTTP/1.1\nHost: shop.localhost\n\n", 400),
    "nul": (field("X: a\0b"), 400),
    "coding-in-1.0": (b"POST / HTTP/1.0\r\nHost: shop.localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "chunked-not-last": (field("Transfer-Encoding: chunked, gzip"), 400),
    "connect": (b"CONNECT shop.localhost:443 HTTP/1.1\r\nHost: shop.localhost\r\n\r\n", 501),
    "version": (b"GET / HTTP/3.0\r\nHost: shop.localhost\r\n\r\n", 505),
    "noise": (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400),
    "long-head": (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, 431),
    "long-body": (field("Content-Length: 104857601"), 413),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_request_that_could_be_read_in_two_ways_is_refused_and_the_connection_ends(
    data: bytes, status: int
) -> None:
    async with open_conductor() as rig, rig.client() as client:
        await client.send(get() + data)
        assert (await client.read_response()).status == 200
        response = await client.read_response()
        assert (response.status, response.value(b"connection")) == (status, b"close")
        slug(response)
        assert await client.ending() == "end"
        assert rig.far.running == 0


async def test_a_body_that_breaks_off_its_framing_is_refused_while_it_comes() -> None:
    async def handler(exchange: Exchange) -> None:
        await read_body(exchange)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(request("POST", "/", "Transfer-Encoding: chunked"), b"3\r\nabc\r\n")
        await client.send(b"zz\r\n")
        assert (await client.read_response()).status == 400
        await rig.settled()


async def test_a_body_that_grows_beyond_the_limit_is_refused_while_it_comes() -> None:
    async def handler(exchange: Exchange) -> None:
        await read_body(exchange)

    async with open_conductor(handler, max_body=10) as rig, rig.client() as client:
        await client.send(
            request("POST", "/", "Transfer-Encoding: chunked"), b"5\r\nabcde\r\n", b"6\r\nabcdef\r\n"
        )
        assert (await client.read_response()).status == 413
        assert await client.ending() == "end"
        await rig.settled()


async def test_unknown_projects_are_404_and_asked_for_once() -> None:
    async with open_conductor() as rig, rig.client() as client:
        for host in ("ghost.localhost", "ghost.localhost:8080", "GHOST.localhost."):
            await client.send(get(host=host))
            response = await client.read_response()
            assert (response.status, slug(response)) == (404, "unknown-project")
        assert rig.projects.asked == ["ghost"]
        for host in ("localhost", "a.b.localhost", "example.com", "-x.localhost", "127.0.0.1"):
            await client.send(get(host=host))
            assert (await client.read_response()).status == 404
        assert rig.projects.asked == ["ghost"], "what cannot be a project is not looked up"


async def test_a_project_made_elsewhere_is_known_at_once() -> None:
    async with open_conductor() as rig, rig.client() as client:
        await client.send(get(host="new.localhost"))
        assert (await client.read_response()).status == 404
        await rig.claim("new")
        await trio.testing.wait_all_tasks_blocked()
        await client.send(get(host="new.localhost"))
        assert (await client.read_response()).status == 200


async def test_a_project_without_a_tunnel_is_503_and_the_connection_lives() -> None:
    async with open_conductor(policy=REJECT) as rig, rig.client() as client:
        await rig.projects.create("idle")
        for _ in range(2):
            await client.send(post(b"x", host="idle.localhost"))
            response = await client.read_response()
            assert (response.status, slug(response)) == (503, "no-tunnel")
            assert response.value(b"retry-after") == b"5"
        outcome = await rig.outcome()
        assert (outcome.result, outcome.slug, outcome.status, outcome.received) == (
            "refused",
            "no-tunnel",
            503,
            1,
        )
        assert json.loads(response.body)["event_id"].startswith("evt_")


async def test_known_projects_go_on_without_the_store() -> None:
    async with open_conductor() as rig:
        rig.projects.broken = True
        assert (await rig.ask(get())).status == 200
        response = await rig.ask(get(host="ghost.localhost"))
        assert (response.status, slug(response)) == (503, "unavailable")


async def test_a_tunnel_that_is_full_is_503() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.reset(ResetCode.OVERLOADED)

    async with open_conductor(handler) as rig:
        response = await rig.ask(get())
        assert (response.status, slug(response)) == (503, "overloaded")
        assert response.values(b"retry-after")


async def test_a_trunk_that_is_full_is_503() -> None:
    go_on = trio.Event()

    async def handler(exchange: Exchange) -> None:
        await go_on.wait()
        await answer(exchange)

    async with open_conductor(handler, max_exchanges=1) as rig, rig.client() as first:
        await first.send(get())
        with trio.fail_after(30):
            while not rig.exchanges:
                await trio.testing.wait_all_tasks_blocked(0.001)
        response = await rig.ask(get())
        assert (response.status, slug(response)) == (503, "overloaded")
        go_on.set()
        assert (await first.read_response()).status == 200


@pytest.mark.parametrize(
    ("code", "status"), [(ResetCode.TUNNEL_LOST, 502), (ResetCode.DEADLINE, 504), (ResetCode.INTERNAL, 502)]
)
async def test_an_exchange_that_is_given_up_before_an_answer(code: ResetCode, status: int) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.reset(code)

    async with open_conductor(handler, policy=REJECT) as rig, rig.client() as client:
        for _ in range(2):
            await client.send(post(b"x"))
            assert (await client.read_response()).status == status
        await rig.settled()


async def test_a_trunk_that_breaks_in_flight_is_502_and_comes_back() -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request.target == b"/break":
            rig.far.cut()
            await trio.sleep_forever()
        await answer(exchange)

    async with open_conductor(handler) as rig, rig.client() as client:
        await client.send(get("/break"))
        response = await client.read_response()
        assert (response.status, slug(response)) == (502, "tunnel-lost")
        await client.send(get())
        assert (await client.read_response()).status == 200, "it waits for the trunk that is coming back"


async def test_a_trunk_that_stays_away_is_503() -> None:
    async with open_conductor(trunk_wait=0.05) as rig:
        await rig.backplane.directory.announce(relay_info("dead", 1), 1e6)
        await rig.claim("other", "dead")
        response = await rig.ask(get(host="other.localhost"))
        assert (response.status, slug(response)) == (503, "unavailable")


async def test_the_answer_to_head_has_no_body() -> None:
    async with open_conductor() as rig, rig.client() as client:
        await client.send(request("HEAD", "/", host="ghost.localhost"))
        assert (await client.read_response(b"HEAD")).status == 404
        await client.send(get())
        assert (await client.read_response()).status == 200


async def test_too_many_connections_of_one_address_are_503() -> None:
    async with open_conductor(max_connections_per_address=1) as rig, rig.client() as first:
        await first.send(get())
        assert (await first.read_response()).status == 200
        async with rig.client() as second:
            assert isinstance(second, Client)
            response = await second.read_response()
            assert (response.status, slug(response)) == (503, "overloaded")
            assert await second.ending() == "end"


async def test_what_could_not_be_read_is_counted() -> None:
    async with open_conductor() as rig:
        before = REGISTRY.get_sample_value("whook_requests_malformed_total", {"status": "400"})
        assert (await rig.ask(b"GET / HTTP/1.1\r\n\r\n")).status == 400
        after = REGISTRY.get_sample_value("whook_requests_malformed_total", {"status": "400"})
        assert (before, after) == (0, 1)


async def test_there_is_no_conductor_without_a_cluster_key() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="cluster_key"), flatten_subgroups=True):
        async with open_conductor(cluster_key=""):
            pass
