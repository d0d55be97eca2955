"""An auth service over a real store, with a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.clocks import WallClock
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
