"""One project and several clients: who holds it, who is refused, who is replaced."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.deadlines import DEADLINE
from tests.support.links import read, reset_of, respond, until
from tests.support.relay import Faulty, Relay, hello, open_relay, opened
from whook.backplane.memory import MemoryBus, open_memory_backplane
from whook.link import Exchange, LinkRefused
from whook.wire import GoAwayCode, ResetCode, encode_hello


class Held:
    """A handler that answers when it is let."""

    def __init__(self) -> None:
        self.go = trio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await self.go.wait()
        await respond(exchange, 200, b"old")


async def only_holder(relay: Relay, tunnel_id: str) -> None:
    """The directory and the switch agree that this tunnel holds the project."""
    assert await relay.holder() == tunnel_id
    assert relay.switch.by_project["prj_shop"].id == tunnel_id


async def test_another_client_is_refused_and_told_who_holds_it() -> None:
    async with open_relay() as relay, relay.client() as client:
        refused = await relay.refusal(hello("cli_2", "bob@desk"))
        assert (refused.code, refused.message) == (GoAwayCode.HELD, "shop is held by ada@laptop")
        await until(lambda: len(relay.switch.tunnels) == 1)
        await only_holder(relay, client.hello.tunnel_id)
        assert client.goaways == []
        async with relay.client(introduction=hello("cli_2"), project="blog"):  # another project is free
            pass


async def test_names_of_holders_are_made_printable() -> None:
    async with (
        open_relay() as relay,
        relay.client(introduction=hello("cli_1", "a\x1b[31m\n\u202eb" + "x" * 500)),
    ):
        refused = await relay.refusal(hello("cli_2"))
        assert refused.message == "shop is held by a[31mb" + "x" * 94
    async with open_relay() as relay, relay.client(introduction=hello("cli_1", "\n\x00")):
        assert (await relay.refusal(hello("cli_2"))).message == "shop is held by an unnamed client"


async def test_a_project_is_free_again_when_its_holder_has_left() -> None:
    async with open_relay() as relay:
        async with relay.client() as first:
            pass
        await until(lambda: not relay.switch.tunnels)
        async with relay.client(introduction=hello("cli_2")) as second:
            assert second.hello.tunnel_id != first.hello.tunnel_id
            await only_holder(relay, second.hello.tunnel_id)


async def test_a_takeover_replaces_the_holder_which_finishes_what_it_has() -> None:
    held = Held()
    async with open_relay() as relay, relay.conductor() as conductor, relay.client(held) as old:
        running = opened(conductor, old)
        await until(lambda: old.answerer.running)
        async with relay.client(introduction=hello("cli_2", "bob@desk", "takeover")) as new:
            await until(lambda: old.goaways)
            assert old.codes == [GoAwayCode.REPLACED]
            assert old.goaways[0].message == "another connection holds the project now: bob@desk"
            await only_holder(relay, new.hello.tunnel_id)
            assert (await reset_of(opened(conductor, old))).code == ResetCode.NO_TUNNEL
            assert await read(opened(conductor, new, b"new")) == ([200], b"new", [])
            held.go.set()
            assert await read(running) == ([200], b"old", [])
            assert await old.ended() == "the peer closed the connection"
            await until(lambda: len(relay.switch.tunnels) == 1)
            await only_holder(relay, new.hello.tunnel_id)  # the old one's end takes nothing from the new one


async def test_a_taken_over_client_that_stays_gets_nothing_and_takes_nothing() -> None:
    async with (
        open_relay() as relay,
        relay.client() as old,
        relay.client(introduction=hello("cli_2", mode="takeover")) as new,
    ):
        await old.ended()  # it had nothing to finish
        for _ in range(3):
            refused = await relay.refusal(hello("cli_1"))
            assert refused.code == GoAwayCode.HELD
        await only_holder(relay, new.hello.tunnel_id)


async def test_the_same_client_replaces_its_ghost_at_once() -> None:
    async with open_relay() as relay, relay.conductor() as conductor, relay.client(Held()) as ghost:
        lost = opened(conductor, ghost)
        await until(lambda: ghost.answerer.running)
        async with relay.client() as new:
            reset = await reset_of(lost)
            assert (reset.code, reset.message) == (ResetCode.TUNNEL_LOST, "the client has connected anew")
            assert await read(opened(conductor, new, b"x")) == ([200], b"x", [])
            await ghost.ended()
            assert ghost.codes == [GoAwayCode.MOVED]
            await only_holder(relay, new.hello.tunnel_id)


async def test_a_ghost_that_reads_nothing_is_replaced_just_as_well() -> None:
    async with open_relay() as relay, relay.conductor() as conductor, relay.dial() as ghost:
        await ghost.send_now(encode_hello(hello()))
        route = (await ghost.receive_hello()).tunnel_id.encode()
        exchange = opened(conductor, route, end=False)
        await exchange.send_data(bytes(200_000))
        async with relay.client() as new:
            assert (await reset_of(exchange)).code == ResetCode.TUNNEL_LOST
            assert await read(opened(conductor, new, b"x")) == ([200], b"x", [])


async def test_a_client_that_was_asked_to_leave_moves_without_losing_anything() -> None:
    held = Held()
    async with open_relay() as relay, relay.conductor() as conductor, relay.client(held) as old:
        running = opened(conductor, old)
        await until(lambda: old.answerer.running)
        relay.switch.ask_to_leave(relay.switch.tunnels[old.hello.tunnel_id], GoAwayCode.EXPIRED, "come again")
        await until(lambda: old.goaways)
        late = opened(conductor, old)  # it still serves
        await until(lambda: old.answerer.running == 2)
        async with relay.client() as new:
            assert await read(opened(conductor, new, b"new")) == ([200], b"new", [])
            held.go.set()
            assert await read(running) == await read(late) == ([200], b"old", [])
            await old.ended()
            await only_holder(relay, new.hello.tunnel_id)


async def test_a_client_that_leaves_finishes_what_it_has() -> None:
    held = Held()
    async with open_relay() as relay, relay.conductor() as conductor, relay.client(held) as client:
        running = opened(conductor, client)
        await until(lambda: client.answerer.running)
        client.answerer.drain("Ctrl-C")
        await until(lambda: not relay.switch.routes)
        assert (await reset_of(opened(conductor, client))).code == ResetCode.NO_TUNNEL
        held.go.set()
        assert await read(running) == ([200], b"old", [])
        await client.ended()
        await until(lambda: not relay.tables.get("tunnels"))
        assert await relay.holder() == ""


async def test_clients_that_fight_leave_one_holder() -> None:
    """Twenty clients take the project from one another at the same time."""
    async with open_relay() as relay, trio.open_nursery() as nursery:
        over = trio.Event()
        taken: list[str] = []

        async def one(number: int) -> None:
            async with relay.client(introduction=hello(f"cli_{number}", mode="takeover")) as client:
                taken.append(client.hello.tunnel_id)
                await over.wait()

        for number in range(20):
            nursery.start_soon(one, number)
        await until(lambda: len(taken) == 20)
        await until(lambda: len(relay.switch.tunnels) == 1)
        (last,) = relay.switch.tunnels
        await only_holder(relay, last)
        assert list(relay.switch.routes) == [last.encode()]
        over.set()


@pytest.mark.parametrize("mode", ["exclusive", "takeover"])
async def test_an_older_generation_never_removes_a_newer_route(mode: str) -> None:
    async with open_relay() as relay, relay.client() as old:
        old_tunnel = relay.switch.tunnels[old.hello.tunnel_id]
        same = mode == "exclusive"
        introduction = hello("cli_1" if same else "cli_2", mode=mode)  # type: ignore[arg-type]
        async with relay.client(introduction=introduction) as new:
            await until(lambda: len(relay.switch.tunnels) == 1)
            directory = relay.backplane.directory
            assert not await directory.release("prj_shop", old_tunnel.generation)
            relay.switch.remove(old_tunnel, "again")
            await only_holder(relay, new.hello.tunnel_id)


@pytest.mark.parametrize("beside", [False, True], ids=["on another relay", "on the same relay"])
async def test_a_takeover_that_overtakes_the_answer_to_a_claim(*, beside: bool) -> None:
    """The first claim has taken effect when the second comes, but its answer is still on its way.

    On another relay only the bus tells; on the same one it may tell too late.
    """
    async with open_memory_backplane() as backplane:
        gate, claimed = trio.Event(), trio.Event()

        class Slow(Faulty):
            async def claim(self, **claim: object) -> object:
                route = await backplane.directory.claim(**claim)  # type: ignore[arg-type]
                if claim["instance"] == "cli_1":
                    claimed.set()
                    await gate.wait()
                return route

        slow = Slow(backplane.directory)
        async with (
            open_relay(
                backplane=backplane, directory=slow.seen, bus=MemoryBus() if beside else None
            ) as relay,
            open_relay(backplane=backplane, relay_id="relay-2") as elsewhere,
            relay.dial() as link,
        ):
            await link.send_now(encode_hello(hello("cli_1")))
            with trio.fail_after(DEADLINE):
                await claimed.wait()
            takeover = hello("cli_2", "bob@desk", mode="takeover")
            async with (relay if beside else elsewhere).client(introduction=takeover) as winner:
                await wait_all_tasks_blocked()
                gate.set()
                with trio.fail_after(DEADLINE), pytest.raises(LinkRefused) as refused:
                    await link.receive_hello()
                assert refused.value.goaway.code == GoAwayCode.REPLACED
                assert refused.value.goaway.message == "another connection holds the project now: bob@desk"
                assert await relay.holder() == winner.hello.tunnel_id
                await link._transport.aclose()
                await until(lambda: len(relay.switch.tunnels) == int(beside))
