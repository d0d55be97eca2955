"""A claim whose answer takes long: what the directory has done with the project since counts."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.links import until
from tests.support.relay import Faulty, Relay, open_relay
from whook.backplane.memory import open_memory_backplane
from whook.backplane.ports import TOPIC_RELAYS, Directory, RelayInfo, Route
from whook.wire import GoAway, GoAwayCode

OTHER = RelayInfo(id="relay-2", tunnel_url="ws://x", trunk_url="tcp://x:1", capacity=1, load=0, version="1")


class SlowClaim(Faulty):
    """The directory's answer to a claim is late; what it has done is done."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory)
        self.claimed, self.answer = trio.Event(), trio.Event()

    async def claim(self, **options: Any) -> Route:
        route = await self._directory.claim(**options)
        self.claimed.set()
        await self.answer.wait()
        return route


@pytest.mark.parametrize(("instance", "code"), [("cli_2", GoAwayCode.REPLACED), ("cli_1", GoAwayCode.MOVED)])
async def test_a_claim_whose_answer_comes_after_its_successor_holds_nothing(
    instance: str, code: GoAwayCode
) -> None:
    async with open_memory_backplane() as backplane:
        slow = SlowClaim(backplane.directory)
        async with (
            open_relay(backplane=backplane, directory=slow.seen) as relay,
            trio.open_nursery() as nursery,
        ):
            refusals: list[GoAway] = []

            async def come() -> None:
                refusals.append(await relay.refusal())

            nursery.start_soon(come)
            with trio.fail_after(DEADLINE):
                await slow.claimed.wait()
            await backplane.directory.announce(OTHER, 60)
            await backplane.directory.claim(
                project_id="prj_shop",
                project="shop",
                relay_id="relay-2",
                tunnel_id="tun_elsewhere",
                instance=instance,
                holder="bob@desk",
                takeover=True,
            )
            await trio.testing.wait_all_tasks_blocked()  # the relay has heard of it
            slow.answer.set()
            await until(lambda: refusals)
            assert [refusal.code for refusal in refusals] == [code]
            await until(lambda: not relay.tables)
            assert await relay.holder() == "tun_elsewhere"


async def test_a_claim_made_on_a_lease_that_was_lost_meanwhile_is_put_back() -> None:
    async with open_memory_backplane() as backplane:
        slow = SlowClaim(backplane.directory)
        async with (
            open_relay(
                backplane=backplane, directory=slow.seen, lease_interval=0.02, lease_ttl=60.0
            ) as relay,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_stay, relay)
            with trio.fail_after(DEADLINE):
                await slow.claimed.wait()
            async with backplane.bus.subscribe(TOPIC_RELAYS) as news:
                await backplane.directory.withdraw("relay-1")
                with trio.fail_after(DEADLINE):
                    async for _, message in news:
                        if b"relay-set" in message:  # its next heartbeat: on a new lease
                            break
            await trio.testing.wait_all_tasks_blocked()
            slow.answer.set()
            await until(lambda: relay.switch.by_project)
            (tunnel,) = relay.switch.tunnels.values()
            with trio.fail_after(DEADLINE):
                while await relay.holder() != tunnel.id:
                    await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()


async def _stay(relay: Relay) -> None:
    async with relay.client():
        await trio.sleep_forever()
