"""A route that turned out wrong costs one more hop, and the sender does not notice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from tests.support.async_http import get, post, request
from tests.support.conductor import REJECT, FarEnd, Rig, answer, echo, open_conductor, read_body, relay_info
from whook.backplane.ports import Route
from whook.link import Exchange
from whook.wire import ResetCode


async def moved(rig: Rig, nursery: trio.Nursery, name: str = "rly_b") -> FarEnd:
    """Have a second relay that echoes, and a first one that sends everything away to it."""
    second = FarEnd(echo)
    await nursery.start(second.serve)
    await rig.backplane.directory.announce(relay_info(name, second.port), 1e6)

    async def gone(exchange: Exchange) -> None:
        await rig.claim("shop", name)
        exchange.reset(ResetCode.NO_TUNNEL)

    rig.far.handler = gone
    return second


@pytest.mark.parametrize("size", [0, 10, 60_000, 200_000])
async def test_a_request_finds_the_relay_that_its_project_moved_to(size: int) -> None:
    async with open_conductor() as rig, trio.open_nursery() as nursery, rig.client() as client:
        second = await moved(rig, nursery)
        body = b"y" * size
        await client.send(post(body))
        response = await client.read_response()
        assert (response.status, response.body == body) == (200, True)
        await client.send(post(body))
        assert (await client.read_response()).status == 200
        assert rig.exchanges == 0
        assert second.running == 0
        nursery.cancel_scope.cancel()


async def test_a_request_whose_body_is_still_coming_finds_it_too() -> None:
    async with open_conductor() as rig, trio.open_nursery() as nursery, rig.client() as client:
        await moved(rig, nursery)
        head = request("POST", "/", "Transfer-Encoding: chunked")
        await client.send(head, b"3\r\nabc\r\n")
        await trio.testing.wait_all_tasks_blocked(0.01)
        await client.send(b"3\r\ndef\r\n0\r\nX: y\r\n\r\n")
        assert (await client.read_response()).body == b"abcdef"
        await rig.settled()
        nursery.cancel_scope.cancel()


async def test_there_is_one_more_hop_and_not_two() -> None:
    attempts: list[str] = []

    async with open_conductor() as rig, trio.open_nursery() as nursery, rig.client() as client:
        second = await moved(rig, nursery)

        async def gone_too(exchange: Exchange) -> None:
            attempts.append(exchange.request.event_id)
            await rig.claim("shop", "rly_b", "three")
            exchange.reset(ResetCode.NO_TUNNEL)

        second.handler = gone_too
        await client.send(get())
        assert (await client.read_response()).status == 503
        assert len(attempts) == 1
        nursery.cancel_scope.cancel()


async def test_nobody_holds_the_project_any_more() -> None:
    async with open_conductor() as rig, rig.client() as client:
        route = await rig.backplane.directory.route("prj_shop")
        assert route is not None

        async def gone(exchange: Exchange) -> None:
            await rig.backplane.directory.release("prj_shop", route.generation)
            exchange.reset(ResetCode.NO_TUNNEL)

        rig.far.handler = gone
        await client.send(get())
        assert (await client.read_response()).status == 503
        await client.send(get())
        assert (await client.read_response()).status == 503


async def test_a_project_whose_return_the_bus_has_not_told_yet_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_conductor() as rig, rig.client() as client:
        directory = rig.backplane.directory
        route = await directory.route("prj_shop")
        assert route is not None
        await directory.release("prj_shop", route.generation)
        await trio.testing.wait_all_tasks_blocked(0.01)

        asked: list[str] = []
        go_on = trio.Event()

        async def back(project_id: str) -> Route:
            asked.append(project_id)
            await go_on.wait()
            return replace(route, generation=route.generation + 100)

        monkeypatch.setattr(directory, "route", back)
        async with rig.client() as other:  # comes while the first one waits for the answer
            await client.send(get())
            await other.send(get())
            await trio.testing.wait_all_tasks_blocked(0.01)
            go_on.set()
            assert (await client.read_response()).status == 200
            assert (await other.read_response()).status == 200
        assert asked == ["prj_shop"]


async def test_a_relay_that_says_no_while_the_directory_says_yes_is_asked_once() -> None:
    asked = 0

    async def refuse(exchange: Exchange) -> None:
        nonlocal asked
        asked += 1
        exchange.reset(ResetCode.NO_TUNNEL)

    async with open_conductor(refuse) as rig:
        assert (await rig.ask(get())).status == 503
        assert asked == 1


async def test_a_body_that_the_first_relay_had_begun_to_take_is_not_sent_twice() -> None:
    async def swallow_and_refuse(exchange: Exchange) -> None:
        await exchange.receive()
        while len(got) < 300_000:
            item = await exchange.receive()
            got.extend(getattr(item, "data", b""))
        exchange.reset(ResetCode.NO_TUNNEL)

    got = bytearray()
    async with open_conductor(swallow_and_refuse, policy=REJECT) as rig, rig.client() as client:
        await client.send(post(b"x" * 400_000))
        assert (await client.read_response()).status == 503
        await rig.settled()


async def test_a_new_relay_is_connected_to_when_it_appears() -> None:
    async def there(exchange: Exchange) -> None:
        await read_body(exchange)
        await answer(exchange, b"from b")

    async with open_conductor() as rig, trio.open_nursery() as nursery:
        second = FarEnd(there)
        await nursery.start(second.serve)
        await rig.backplane.directory.announce(relay_info("rly_b", second.port), 1e6)
        await rig.claim("new", "rly_b")
        assert (await rig.ask(get(host="new.localhost"))).body == b"from b"
        nursery.cancel_scope.cancel()


async def test_a_request_for_a_relay_that_is_gone_waits_for_its_client() -> None:
    """The directory still names the relay that died; the client comes back at another one meanwhile."""
    async with open_conductor() as rig, trio.open_nursery() as nursery, rig.client() as client:
        await rig.backplane.directory.announce(relay_info("dead", 1), 1e6)
        await rig.claim("other", "dead")
        second = FarEnd(echo)
        await nursery.start(second.serve)
        await rig.backplane.directory.announce(relay_info("rly_b", second.port), 1e6)
        await client.send(post(b"kept", host="other.localhost"))
        await trio.testing.wait_all_tasks_blocked(0.02)
        await rig.claim("other", "rly_b", "two")
        response = await client.read_response()
        assert (response.status, response.body) == (200, b"kept")
        nursery.cancel_scope.cancel()


async def test_a_client_that_is_leaving_has_looked_at_nothing() -> None:
    async with open_conductor() as rig, trio.open_nursery() as nursery, rig.client() as client:
        second = FarEnd(echo)
        await nursery.start(second.serve)
        await rig.backplane.directory.announce(relay_info("rly_b", second.port), 1e6)

        async def leaving(exchange: Exchange) -> None:
            await rig.claim("shop", "rly_b")
            exchange.reset(ResetCode.DRAINING)

        rig.far.handler = leaving
        await client.send(post(b"kept"))
        response = await client.read_response()
        assert (response.status, response.body) == (200, b"kept")
        nursery.cancel_scope.cancel()
