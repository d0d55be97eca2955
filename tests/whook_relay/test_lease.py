"""The relay and its entries in the directory, when they do not agree; and the news on the bus."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.deadlines import DEADLINE
from tests.support.links import read, reset_of, until
from tests.support.relay import Faulty, Relay, hello, open_relay, opened
from whook.backplane.memory import MemoryBus, open_memory_backplane
from whook.backplane.ports import (
    TOPIC_KICK,
    TOPIC_RELAYS,
    TOPIC_ROUTES,
    Directory,
    Kick,
    RelayInfo,
    Route,
    RouteHeld,
    encode_event,
)
from whook.chassis.readiness import Degraded
from whook.link import Exchange, HandshakeRefused
from whook.wire import GoAwayCode, ResetCode

QUICK: dict[str, Any] = {"lease_interval": 0.02, "lease_ttl": 60.0}
OTHER = RelayInfo(id="relay-2", tunnel_url="ws://x", trunk_url="tcp://x:1", capacity=1, load=0, version="1")


async def stuck(_: Exchange) -> None:
    await trio.sleep_forever()


async def test_a_relay_says_what_it_is_and_how_much_it_holds() -> None:
    async with open_relay(**QUICK, capacity=7, tunnel_url="wss://relay.example/") as relay:
        (info,) = await relay.backplane.directory.relays()
        assert (info.id, info.capacity, info.load, info.draining) == ("relay-1", 7, 0, False)
        assert info.tunnel_url == "wss://relay.example/v1/tunnel"
        assert info.trunk_url == relay.ports.trunk_url
        assert relay.readiness.ready
    async with open_relay(**QUICK) as relay, relay.client():
        async with relay.backplane.bus.subscribe(TOPIC_RELAYS) as news:
            with trio.fail_after(DEADLINE):
                await anext(aiter(news))
        (info,) = await relay.backplane.directory.relays()
        assert info.load == 1


async def test_a_start_without_the_directory_listens_refuses_and_heals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("whook_relay.service.START_PATIENCE", 0.1)
    async with open_memory_backplane() as backplane:
        faulty = Faulty(backplane.directory)
        faulty.broken |= {"withdraw", "claim"}
        async with open_relay(backplane=backplane, directory=faulty.seen, **QUICK) as relay:
            assert not relay.readiness.ready
            assert "no lease yet" in str(relay.readiness.evaluate()["lease"])
            with pytest.raises(HandshakeRefused):
                async with relay.dial():
                    pytest.fail("it was taken")
            faulty.broken.clear()
            await until(lambda: relay.readiness.ready)
            async with relay.client() as client:
                assert await relay.holder() == client.hello.tunnel_id


async def test_routes_lost_with_the_lease_are_put_back() -> None:
    async with open_relay(**QUICK) as relay, relay.client() as shop, relay.client(project="blog") as blog:
        before = relay.switch.tunnels[shop.hello.tunnel_id].generation
        await relay.backplane.directory.withdraw("relay-1")
        await until_holder(relay, "shop", shop.hello.tunnel_id)
        await until_holder(relay, "blog", blog.hello.tunnel_id)
        await until(lambda: relay.switch.tunnels[shop.hello.tunnel_id].generation > before)
        async with relay.conductor() as conductor:
            assert await read(opened(conductor, shop, b"x")) == ([200], b"x", [])
    assert shop.goaways == []


async def test_lost_routes_are_put_back_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whook_relay.lease.RECLAIM_BATCH", 3)
    sizes: list[int] = []

    class Counting(Faulty):
        async def reclaim(self, routes: Sequence[Route]) -> list[Route | RouteHeld]:
            sizes.append(len(routes))
            return await self._directory.reclaim(routes)

    async with open_memory_backplane() as backplane, AsyncExitStack() as clients:
        counting = Counting(backplane.directory)
        relay = await clients.enter_async_context(
            open_relay(backplane=backplane, directory=counting.seen, **QUICK)
        )
        found = [
            await clients.enter_async_context(relay.client(project=f"p{n}", introduction=hello(f"cli_{n}")))
            for n in range(7)
        ]
        await backplane.directory.withdraw("relay-1")
        for n, client in enumerate(found):
            await until_holder(relay, f"p{n}", client.hello.tunnel_id)
        assert sizes == [3, 3, 1]
        for client in reversed(found):
            client.link.close("the test has ended")


async def until_holder(relay: Relay, project: str, tunnel_id: str) -> None:
    with trio.fail_after(DEADLINE):
        while await relay.holder(project) != tunnel_id:
            await trio.testing.wait_all_tasks_blocked()


async def test_an_outage_while_routes_are_put_back_loses_none() -> None:
    async with open_memory_backplane() as backplane:
        faulty = Faulty(backplane.directory)
        async with (
            open_relay(backplane=backplane, directory=faulty.seen, **QUICK) as relay,
            relay.client() as shop,
            relay.client(project="blog") as blog,
        ):
            faulty.broken.add("reclaim")
            await backplane.directory.withdraw("relay-1")
            await until(lambda: faulty.failed > 2)
            assert relay.readiness.ready, "a load balancer that took it out would cut its tunnels"
            found = relay.readiness.evaluate()["lease"]
            assert isinstance(found, Degraded)
            assert "reclaim: the test says so" in found.reason
            faulty.broken.clear()
            await until_holder(relay, "shop", shop.hello.tunnel_id)
            await until_holder(relay, "blog", blog.hello.tunnel_id)
            await until(lambda: not relay.readiness.degraded)


async def test_a_project_that_went_elsewhere_meanwhile_is_not_taken_back() -> None:
    bus = MemoryBus()  # the relay hears nothing
    async with open_memory_backplane() as backplane:
        faulty = Faulty(backplane.directory)
        async with (
            open_relay(backplane=backplane, directory=faulty.seen, bus=bus, **QUICK) as relay,
            relay.client() as client,
        ):
            faulty.broken.add("announce")
            await backplane.directory.withdraw("relay-1")
            await backplane.directory.announce(OTHER, 60)
            await claim(backplane.directory, "cli_2", "bob@desk")
            faulty.broken.clear()
            await client.ended()
            assert client.codes == [GoAwayCode.REPLACED]
            assert client.goaways[0].message.endswith("bob@desk")
            assert await relay.holder() == "tun_elsewhere"


async def test_a_tunnel_that_ends_while_its_route_is_put_back_leaves_none() -> None:
    async with open_memory_backplane() as backplane:
        gate, waiting = trio.Event(), trio.Event()

        class Slow(Faulty):
            async def reclaim(self, routes: Sequence[Route]) -> list[Route | RouteHeld]:
                waiting.set()
                await gate.wait()
                return await backplane.directory.reclaim(routes)

        slow = Slow(backplane.directory)
        async with open_relay(backplane=backplane, directory=slow.seen, **QUICK) as relay:
            async with relay.client():
                await backplane.directory.withdraw("relay-1")
                with trio.fail_after(DEADLINE):
                    await waiting.wait()
            await until(lambda: not relay.tables)
            gate.set()
            await until(lambda: relay.readiness.ready)
            await until_holder(relay, "shop", "")
            assert relay.tables == {}


async def claim(directory: Directory, instance: str, holder: str) -> None:
    await directory.claim(
        project_id="prj_shop",
        project="shop",
        relay_id="relay-2",
        tunnel_id="tun_elsewhere",
        instance=instance,
        holder=holder,
        takeover=True,
    )


async def test_what_an_earlier_process_of_the_same_name_left_is_removed() -> None:
    """It died without a word, and its routes would bar the project from everybody but its own client."""
    async with open_memory_backplane() as backplane:
        await backplane.directory.announce(
            RelayInfo(
                id="relay-1", tunnel_url="ws://x", trunk_url="tcp://x:1", capacity=1, load=1, version="1"
            ),
            60,
        )
        await backplane.directory.claim(
            project_id="prj_shop", project="shop", relay_id="relay-1", tunnel_id="tun_dead", instance="cli_9",
            holder="somebody",
        )  # fmt: skip
        async with open_relay(backplane=backplane) as relay, relay.client() as client:
            assert await relay.holder() == client.hello.tunnel_id


# -- the directory fails while a tunnel comes or goes -------------------------------------------------------


@pytest.mark.parametrize("how", ["broken", "late"])
async def test_a_claim_that_fails_leaves_nothing_behind(how: str) -> None:
    async with open_memory_backplane() as backplane:
        faulty = Faulty(backplane.directory)
        async with open_relay(backplane=backplane, directory=faulty.seen, lease_interval=3.0) as relay:
            getattr(faulty, how).add("claim")
            goaway = await relay.refusal()
            assert (goaway.code, goaway.retry_after) == (GoAwayCode.FULL, 3.0)
            assert "takes no tunnels now" in goaway.message
            getattr(faulty, how).clear()
            await until(lambda: not relay.tables)
            await until_holder(relay, "shop", "")
            async with relay.client(introduction=hello("cli_2")):
                pass


async def test_without_a_lease_there_are_no_tunnels() -> None:
    async with open_relay() as relay:
        await relay.backplane.directory.withdraw("relay-1")
        assert (await relay.refusal()).code == GoAwayCode.FULL


async def test_a_route_that_cannot_be_released_is_somebody_elses_sorrow() -> None:
    async with open_memory_backplane() as backplane:
        faulty = Faulty(backplane.directory)
        async with open_relay(backplane=backplane, directory=faulty.seen) as relay:
            faulty.broken.add("release")
            async with relay.client():
                pass
            await until(lambda: faulty.failed)
            await until(lambda: not relay.tables)
            async with relay.client():  # the same client may always come again
                pass


# -- tokens -------------------------------------------------------------------------------------------------


async def test_a_client_is_asked_to_come_again_before_its_token_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = 0.0
    clock = time.time
    async with open_relay(**QUICK) as relay, relay.client(lifetime=600) as client, relay.client(project="b"):
        monkeypatch.setattr("whook_relay.lease.time.time", lambda: clock() + ahead)
        await trio.testing.wait_all_tasks_blocked()
        assert client.goaways == []
        ahead = 511.0  # later than the 60 s before the end at which clients come by themselves
        await until(lambda: client.goaways)
        assert client.codes == [GoAwayCode.EXPIRED]
        async with relay.conductor() as conductor:
            assert await read(opened(conductor, client, b"x")) == ([200], b"x", [])  # it still serves
        await trio.testing.wait_all_tasks_blocked()
        assert client.codes == [GoAwayCode.EXPIRED]  # it is asked once


async def test_a_tunnel_ends_with_its_token() -> None:
    async with open_relay() as relay, relay.conductor() as conductor:
        async with relay.client(stuck, lifetime=1) as client:
            exchange = opened(conductor, client)
            reset = await reset_of(exchange)
            assert (reset.code, reset.message) == (ResetCode.TUNNEL_LOST, "the tunnel's token expired")
            await client.ended()
        assert await relay.holder() == ""


# -- the bus ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kick",
    [
        Kick(project_id="prj_shop", reason="the project was deleted"),
        Kick(user_id="usr_1", reason="the user was locked"),
        Kick(token_id="tok_1", reason="the token was revoked"),
        Kick(project_id="prj_shop", user_id="usr_1", token_id="tok_1", reason="all of it"),
    ],
)
async def test_a_kick_ends_what_it_matches(kick: Kick) -> None:
    other: dict[str, Any] = {"project": "blog", "user_id": "usr_2", "token_id": "tok_2"}
    async with (
        open_relay() as relay,
        relay.conductor() as conductor,
        relay.client(stuck) as client,
        relay.client(stuck, hello("cli_w", mode="watch")) as onlooker,
        relay.client(introduction=hello("cli_2"), **other) as untouched,
    ):
        exchange = opened(conductor, client)
        await until(lambda: client.answerer.running)
        await relay.bus.publish(TOPIC_KICK, encode_event(kick))
        reset = await reset_of(exchange)
        assert (reset.code, reset.message) == (ResetCode.TUNNEL_LOST, kick.reason)
        for kicked in (client, onlooker):
            await kicked.ended()
            assert [(each.code, each.message) for each in kicked.goaways] == [
                (GoAwayCode.REVOKED, kick.reason)
            ]
        assert await read(opened(conductor, untouched, b"x")) == ([200], b"x", [])
        await until(lambda: len(relay.switch.tunnels) == 1)
        await until_holder(relay, "shop", "")


@pytest.mark.parametrize("outage", [False, True])
async def test_after_a_gap_the_routes_are_read_anew(outage: bool) -> None:
    bus = MemoryBus(buffer=5)
    async with open_memory_backplane() as backplane:
        faulty = Faulty(backplane.directory)
        async with (
            open_relay(backplane=backplane, directory=faulty.seen, bus=bus, **QUICK) as relay,
            relay.client() as client,
            relay.client(introduction=hello("cli_w", mode="watch")) as onlooker,
            relay.client(project="blog") as untouched,
        ):
            await backplane.directory.announce(OTHER, 60)
            await claim(backplane.directory, "cli_2", "bob@desk")
            await trio.testing.wait_all_tasks_blocked()
            assert client.goaways == []  # nobody has told the relay
            if outage:
                faulty.broken.add("routes")
            for _ in range(10):
                bus.publish_nowait(TOPIC_KICK, encode_event(Kick(project_id="prj_none", reason="noise")))
            if outage:
                await until(lambda: faulty.failed > 2)
                faulty.broken.clear()
            await client.ended()
            await onlooker.ended()
            assert client.codes == [GoAwayCode.REPLACED]
            assert onlooker.codes == [GoAwayCode.MOVED]
            assert untouched.goaways == []
            assert list(relay.tables.items())[:2] == [("tunnels", 1), ("routes", 1)]


async def test_messages_of_a_newer_version_do_no_harm() -> None:
    async with open_relay() as relay, relay.client() as client, relay.conductor() as conductor:
        for topic in (TOPIC_KICK, TOPIC_ROUTES):
            await relay.bus.publish(topic, b'{"event":"something-new","of":1}', keep=60)
        assert await read(opened(conductor, client, b"x")) == ([200], b"x", [])
        await relay.bus.publish(TOPIC_KICK, encode_event(Kick(token_id="tok_1", reason="still heard")))
        await client.ended()
        assert client.codes == [GoAwayCode.REVOKED]
        async with open_relay(backplane=relay.backplane, relay_id="relay-2") as other, other.client():
            pass


async def test_the_route_moves_to_another_relay_with_the_same_client() -> None:
    async with (
        open_relay() as relay,
        open_relay(backplane=relay.backplane, relay_id="relay-2") as other,
        relay.conductor() as conductor,
        relay.client(stuck) as old,
    ):
        lost = opened(conductor, old)
        await until(lambda: old.answerer.running)
        async with other.client() as new, other.conductor() as second:
            assert (await reset_of(lost)).code == ResetCode.TUNNEL_LOST
            await old.ended()
            assert old.codes == [GoAwayCode.MOVED]
            assert await read(opened(second, new, b"x")) == ([200], b"x", [])
            await until(lambda: not relay.tables.get("tunnels"))
            assert await relay.holder() == new.hello.tunnel_id


async def test_without_a_lease_it_takes_no_tunnels_and_soon_tries_again() -> None:
    async with open_memory_backplane() as backplane:
        faulty = Faulty(backplane.directory)
        async with open_relay(backplane=backplane, directory=faulty.seen, lease_interval=0.1) as relay:
            async with relay.client() as client, relay.conductor() as conductor:
                faulty.broken.add("announce")
                await until(lambda: faulty.failed)
                await wait_all_tasks_blocked()
                with pytest.raises(HandshakeRefused) as refused:
                    async with relay.dial():
                        pytest.fail("it was taken")
                assert (refused.value.status, refused.value.headers["retry-after"]) == (503, "5")
                assert await read(opened(conductor, client, b"x")) == ([200], b"x", [])
            faulty.broken.clear()
            await until(lambda: relay.readiness.ready)
