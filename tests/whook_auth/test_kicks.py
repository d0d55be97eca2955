"""A right that was withdrawn ends its tunnels also if the relay, the bus or Redis was away just then.

Auth and a real relay, on a real Redis that is cut off, killed, and started again empty.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.links import until
from tests.support.redis_server import RedisServer
from tests.support.relay import Client, Relay, hello, open_relay
from whook.backplane.memory import MemoryBus, open_memory_backplane
from whook.backplane.ports import TOPIC_KICK, Bus, Kick, Unavailable, decode_kick, encode_event
from whook.backplane.redis import open_redis_backplane
from whook.link import HandshakeRefused
from whook.wire import GoAwayCode
from whook_auth.kicks import Kicks

HOUR = timedelta(hours=1)
QUICK: dict[str, Any] = {"lease_interval": 0.05, "lease_ttl": 60.0}
OTHERS: dict[str, Any] = {"project": "blog", "user_id": "usr_2", "token_id": "tok_2"}
LOST = Kick(token_id="tok_1", reason="the access token was revoked")


def later() -> datetime:
    """Tell the time of an auth service whose kicks are surely later than the tokens of the test."""
    return datetime.now(UTC) + timedelta(seconds=1)


@pytest.fixture
def server(tmp_path: Path) -> Generator[RedisServer, None, None]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def running_kicks(bus: Bus) -> AsyncGenerator[Kicks]:
    """Run the kicks of one auth process."""
    kicks = Kicks(bus, lifetime=HOUR, now=later)
    async with trio.open_nursery() as nursery:
        await nursery.start(kicks.run)
        yield kicks
        nursery.cancel_scope.cancel()


async def until_kept(bus: Bus, count: int) -> None:
    with trio.fail_after(DEADLINE):
        while True:
            await trio.lowlevel.checkpoint()
            try:
                if len(await bus.kept(TOPIC_KICK)) == count:
                    return
            except Unavailable:
                continue


async def revoked(client: Client) -> None:
    """Wait until the client was sent away."""
    await client.ended()
    assert client.codes == [GoAwayCode.REVOKED]
    assert client.goaways[0].message == LOST.reason


async def test_a_relay_that_missed_a_kick_reads_it_after_the_gap() -> None:
    bus = MemoryBus(buffer=2)
    async with (
        open_memory_backplane() as backplane,
        open_relay(backplane=backplane, bus=bus, **QUICK) as relay,
        relay.client() as client,
        relay.client(introduction=hello("cli_2"), **OTHERS) as untouched,
    ):
        now = later().timestamp()
        kick = Kick(token_id="tok_1", reason=LOST.reason, at=now, until=now + 100)
        # Kept without being told: what a subscriber sees that was cut off.
        async with open_memory_backplane() as elsewhere:
            await elsewhere.bus.publish(TOPIC_KICK, encode_event(kick), keep=100)
            bus.kept = elsewhere.bus.kept  # type: ignore[method-assign]
            await trio.testing.wait_all_tasks_blocked()
            assert client.goaways == []
            for _ in range(5):
                noise = Kick(project_id="prj_none", reason="noise")
                bus.publish_nowait(TOPIC_KICK, encode_event(noise))
            await revoked(client)
        assert untouched.goaways == []


async def test_cut_off_from_redis_while_it_happens(server: RedisServer) -> None:
    """Redis drops the relay's feed and takes the kick in one step, so that the relay cannot have heard it."""
    async with (
        open_redis_backplane(server.url) as auth_side,
        running_kicks(auth_side.bus) as kicks,
        open_redis_backplane(server.url) as relay_side,
        open_relay(backplane=relay_side, **QUICK) as relay,
        relay.client() as client,
        relay.client(introduction=hello("cli_2"), **OTHERS) as untouched,
    ):
        cut = Cutting(server)
        auth_side.bus.publish = cut.wrap(auth_side.bus.publish)  # type: ignore[method-assign]
        await kicks.send(LOST)
        await revoked(client)
        assert cut.feeds == 2, "the relay's feed was among those that were cut"
        assert untouched.goaways == []
        await until(lambda: len(relay.switch.tunnels) == 1)


class Cutting:
    """Cuts every feed of the bus just before something is published."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.feeds = 0

    def wrap(self, publish: Any) -> Any:
        async def cut_and_publish(*args: Any, **more: Any) -> None:
            self.feeds += int(self._server.client().execute_command("CLIENT", "KILL", "TYPE", "pubsub"))
            await publish(*args, **more)

        return cut_and_publish


async def test_withdrawn_while_redis_is_gone_and_comes_back_empty(server: RedisServer) -> None:
    async with (
        open_redis_backplane(server.url, settle=0) as backplane,
        running_kicks(backplane.bus) as kicks,
        open_relay(backplane=backplane, **QUICK) as relay,
        relay.client() as client,
        relay.client(introduction=hello("cli_2"), **OTHERS) as untouched,
    ):
        server.kill()
        with pytest.raises(Unavailable):
            await kicks.send(LOST)
        assert client.goaways == []
        server.start()
        await revoked(client)
        assert untouched.goaways == []
        await until_kept(backplane.bus, 1)


async def test_what_a_restarted_redis_has_forgotten_any_auth_process_puts_back(server: RedisServer) -> None:
    """The one that published it is gone as well; another has heard of it."""
    async with (
        open_redis_backplane(server.url, settle=0) as first,
        open_redis_backplane(server.url, settle=0) as second,
        running_kicks(second.bus),
    ):
        async with running_kicks(first.bus) as gone:
            await gone.send(LOST)
        await until_kept(second.bus, 1)
        before = await second.bus.kept(TOPIC_KICK)
        server.kill()
        server.start()
        await until_kept(second.bus, 1)
        assert await second.bus.kept(TOPIC_KICK) == before
        async with open_relay(backplane=second, **QUICK) as relay:
            await refused_with(relay, 503)


async def test_a_relay_that_has_just_started_knows_the_kicks_of_late(server: RedisServer) -> None:
    async with open_redis_backplane(server.url) as backplane, running_kicks(backplane.bus) as kicks:
        kicks._now = lambda: datetime.now(UTC) + timedelta(seconds=60)
        await kicks.send(LOST)
        async with open_relay(backplane=backplane, **QUICK) as relay:
            await refused_with(relay, 401)
            async with relay.client(introduction=hello("cli_2"), **OTHERS) as untouched:
                assert untouched.goaways == []


async def refused_with(relay: Relay, status: int) -> None:
    """Come with a token from before the kick until the relay has read it: then it is refused."""
    answer = 0
    with trio.fail_after(DEADLINE):
        while not answer:
            try:
                async with relay.client() as early:
                    await early.ended()
            except HandshakeRefused as refused:
                answer = refused.status
    assert answer == status


async def test_a_member_who_was_let_in_again_is_not_sent_away_by_an_old_kick() -> None:
    """What is told again is as old as it was: tunnels opened since stay."""
    bus = MemoryBus()
    async with (
        open_memory_backplane() as backplane,
        open_relay(backplane=backplane, bus=bus, **QUICK) as relay,
    ):
        past = Kick(token_id="tok_1", reason="x", at=datetime.now(UTC).timestamp() - 60, until=4e9)
        async with relay.client() as client:
            await bus.publish(TOPIC_KICK, encode_event(past), keep=100)
            await bus.publish(TOPIC_KICK, encode_event(Kick(token_id="tok_2", reason="noise")))
            await trio.testing.wait_all_tasks_blocked()
            assert client.goaways == []


async def test_what_was_sent_says_when_and_until_when() -> None:
    bus = MemoryBus()
    kicks = Kicks(bus, lifetime=HOUR, now=later)
    before = later().timestamp()
    await kicks.send(LOST)
    (message,) = await bus.kept(TOPIC_KICK)
    sent = decode_kick(message)
    assert before <= sent.at <= later().timestamp()
    assert sent.until - sent.at > HOUR.total_seconds()
