"""An auth service over a real store, with a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.auth_rig import open_auth_rig
from tests.support.clocks import WallClock
from tests.support.tenants import World
from tests.support.twins import sqlite_auth_store
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import AuthStore
from whook_auth.service import AuthService, open_auth


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def bus() -> MemoryBus:
    return MemoryBus()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[AuthStore, None]:
    async with sqlite_auth_store(tmp_path) as opened:
        yield opened


@pytest.fixture
async def auth(store: AuthStore, bus: MemoryBus, clock: WallClock) -> AsyncGenerator[AuthService, None]:
    async with open_auth(store, bus, now=clock) as opened:
        yield opened


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World, None]:
    async with open_auth_rig(tmp_path) as rig:
        tokens = {name: await rig.user(name) for name in ("ann", "bob", "vic", "eve")}
        await rig.do("POST", "/v1/projects", {"name": "shop"}, token=tokens["ann"])
        for user, role in (("bob", "developer"), ("vic", "viewer")):
            await rig.do("PUT", f"/v1/projects/shop/members/{user}", {"role": role}, token=tokens["ann"])
        tokens["admin"] = rig.admin
        yield World(rig, tokens)
