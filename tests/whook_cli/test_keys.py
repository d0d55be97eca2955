"""The all-in-one server's relay follows the rotation of auth's keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.clocks import WallClock
from tests.support.deadlines import DEADLINE
from tests.support.twins import sqlite_auth_store
from whook.backplane.memory import MemoryBus
from whook.chassis.drain import Drain
from whook.chassis.tunnel_token import Verifier
from whook_auth.keys import PUBLISH_AHEAD
from whook_auth.service import TUNNEL_LIFETIME, open_auth
from whook_cli import allinone


class Told(Verifier):
    """Lets a test wait for a set of keys of some size."""

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self.changed = trio.lowlevel.ParkingLot()
        super().__init__(jwks)

    def update(self, jwks: Mapping[str, Any]) -> None:
        super().update(jwks)
        self.changed.unpark_all()

    async def wait(self, count: int) -> frozenset[str]:
        with trio.fail_after(DEADLINE):
            while len(self.key_ids) != count:
                await self.changed.park()
        return self.key_ids


async def test_the_relay_learns_a_new_key_before_it_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allinone, "KEYS_REFRESH", 0.01)
    clock, drain = WallClock(), Drain(grace=1.0)
    async with (
        sqlite_auth_store(tmp_path) as store,
        open_auth(store, MemoryBus(), now=clock) as auth,
        trio.open_nursery() as nursery,
    ):
        verifier = Told(await auth.jwks())
        (first,) = verifier.key_ids
        nursery.start_soon(allinone._follow_keys, verifier, auth, drain)
        await auth.rotate_signing_key()
        both = await verifier.wait(2)
        assert first in both
        clock.ahead += PUBLISH_AHEAD + TUNNEL_LIFETIME + timedelta(hours=1)
        assert await verifier.wait(1) == both - {first}
        drain.begin("the test is over")
