"""A far end that does whatever it likes: nothing is lost, nothing overtakes, attempts only count up."""

from __future__ import annotations

import os
import random
from collections import defaultdict

import pytest
import trio
import trio.testing

from tests.support.backlog import buffer, emptied
from tests.support.conductor import answer, open_conductor, read_body
from whook.backplane.ports import EventQuery, ProjectPolicy
from whook.link import Exchange
from whook.wire import ResetCode

SEEDS = [int(os.environ.get("WHOOK_TEST_SEED", "0")) + number for number in range(2)]
FAILED = ["500", "429", "internal"]
ENOUGH = 60
"""Deliveries after which the far end behaves."""
BROKEN_OFF = ["lost", "overloaded", "draining", "no-tunnel", "gone"]


@pytest.mark.parametrize("head_of_line", ["block", "skip"])
@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_the_far_end_does(seed: int, window: int, head_of_line: str) -> None:
    chance = random.Random(f"{seed}/{window}/{head_of_line}")
    attempts: dict[str, list[int]] = defaultdict(list)
    answered: list[str] = []
    failed: set[str] = set()
    calm = trio.Event()

    async def handler(exchange: Exchange) -> None:
        request = exchange.request
        body, _ = await read_body(exchange)
        assert body == request.target
        attempts[request.event_id].append(request.attempt)
        if sum(map(len, attempts.values())) >= ENOUGH:
            calm.set()
        await trio.lowlevel.checkpoint()
        what = "ok" if calm.is_set() else chance.choice(["ok"] * 20 + FAILED + BROKEN_OFF)
        if what == "ok":
            await answer(exchange)
            answered.append(request.event_id)
        elif what in ("500", "429"):
            failed.add(request.event_id)
            await answer(exchange, status=int(what))
        elif what == "internal":
            failed.add(request.event_id)
            exchange.reset(ResetCode.INTERNAL)
        elif what == "gone":
            route = await rig.backplane.directory.route("prj_shop")
            assert route is not None
            await rig.backplane.directory.release("prj_shop", route.generation)
            exchange.reset(ResetCode.TUNNEL_LOST)
            await rig.claim("shop")
        else:
            codes = {
                "lost": ResetCode.TUNNEL_LOST,
                "overloaded": ResetCode.OVERLOADED,
                "draining": ResetCode.DRAINING,
                "no-tunnel": ResetCode.NO_TUNNEL,
            }
            exchange.reset(codes[what])
            if what in ("no-tunnel", "draining"):
                await rig.claim("shop")  # a relay that says so has withdrawn it; the client comes again

    policy = ProjectPolicy(
        head_of_line="block" if head_of_line == "block" else "skip",
        window=window,
        retry_base=0.01,
        retry_cap=0.02,
        max_attempts=1_000,
    )
    async with open_conductor(handler, tunnels=(), policy=policy) as rig:
        ids = await buffer(rig, *(f"/{number}" for number in range(40)))
        await rig.claim("shop")
        await emptied(rig)
        assert set(answered) == set(ids)
        for event, seen in attempts.items():
            assert seen == sorted(set(seen)), f"{event} was numbered {seen}"
        firsts = list(dict.fromkeys(answered))
        if window == 1:
            in_order = ids if head_of_line == "block" else [found for found in ids if found not in failed]
            assert [found for found in firsts if found in set(in_order)] == in_order
        assert await rig.stored.history.find("prj_shop", EventQuery(states=("dead",))) == []
