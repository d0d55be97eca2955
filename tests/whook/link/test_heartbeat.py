"""Liveness, on a clock that jumps. One interval is 20 s, so the heartbeat looks every 2.5 s."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support.links import in_memory
from tests.support.wire_talk import frame
from whook.link import Heartbeat, Link, Transport
from whook.wire import ACK, PING, FrameReader, encode_frame


@dataclass
class Peer:
    """The other end, which keeps when it was probed."""

    transport: Transport
    answers: bool = True
    probed: list[float] = field(default_factory=list)
    probe: trio.Event = field(default_factory=trio.Event)
    """Set by the next probe."""
    gone: trio.Event = field(default_factory=trio.Event)
    """The link at the other end has ended."""

    async def run(self) -> None:
        reader = FrameReader()
        while data := await self.transport.receive():
            for kind, flags, *_ in reader.feed(data):
                assert (kind, flags) == (PING, 0)
                self.probed.append(trio.current_time())
                self.probe.set()
                self.probe = trio.Event()
                if self.answers:
                    await self.transport.send(encode_frame(PING, ACK, 0))
        self.gone.set()


@asynccontextmanager
async def watched(clock: MockClock, *, answers: bool = True) -> AsyncGenerator[tuple[Link, Peer, Heartbeat]]:
    near, far = in_memory()
    link, peer, heartbeat = Link(near, name="near"), Peer(far, answers), Heartbeat(20.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat.run)
        nursery.start_soon(link.run, lambda _: None)
        nursery.start_soon(peer.run)
        heartbeat.add(link)
        await wait_all_tasks_blocked()
        yield link, peer, heartbeat
        nursery.cancel_scope.cancel()


async def test_a_silent_peer_is_probed_and_then_given_up(autojump_clock: MockClock) -> None:
    async with watched(autojump_clock, answers=False) as (link, peer, heartbeat):
        await peer.transport.send(frame("DATA 1 'a sign of life'"))
        await wait_all_tasks_blocked()
        heard = trio.current_time()
        await peer.gone.wait()
        silent = trio.current_time() - heard
    assert [17.5 <= at - heard <= 20 for at in peer.probed] == [True]
    assert 25 <= silent <= 28
    assert link.close_reason == "no sign of life for 25 s"
    assert (heartbeat.lost, heartbeat.lag) == (1, 0.0)


async def test_one_that_answers_lives(autojump_clock: MockClock) -> None:
    async with watched(autojump_clock) as (link, peer, _):
        await trio.sleep(3600)
        assert not link.closed
    assert 120 <= len(peer.probed) <= 210


async def test_traffic_is_life_enough(autojump_clock: MockClock) -> None:
    async with watched(autojump_clock, answers=False) as (link, peer, _):
        for _ in range(100):
            await trio.sleep(17)
            await peer.transport.send(frame("DATA 1 'x'"))
        assert not link.closed
    assert peer.probed == []


async def test_a_peer_that_answers_late_but_in_time(autojump_clock: MockClock) -> None:
    async with watched(autojump_clock, answers=False) as (link, peer, _):
        for _ in range(20):
            await peer.probe.wait()
            await trio.sleep(5)
            await peer.transport.send(encode_frame(PING, ACK, 0))
        assert not link.closed


async def test_after_the_machine_slept_links_are_probed_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop's monotonic clock stands still while it sleeps; its wall clock does not."""
    slept = 0.0
    monkeypatch.setattr(time, "time", lambda: trio.current_time() + slept)
    async with watched(autojump_clock) as (alive, alive_peer, heartbeat):
        near, far = in_memory()
        dead, dead_peer = Link(near, name="dead"), Peer(far, answers=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dead.run, lambda _: None)
            nursery.start_soon(dead_peer.run)
            heartbeat.add(dead)
            await trio.sleep(6)
            slept = 3600.0
            woken = trio.current_time()
            await dead_peer.gone.wait()
            assert trio.current_time() - woken <= 8
            nursery.cancel_scope.cancel()
        assert not alive.closed
        assert alive_peer.probed
        assert [at - woken <= 2.5 for at in dead_peer.probed] == [True]


async def test_closed_links_are_forgotten(autojump_clock: MockClock) -> None:
    async with watched(autojump_clock) as (link, _, heartbeat):
        link.close("over")
        await trio.sleep(5)
        assert not heartbeat._links
