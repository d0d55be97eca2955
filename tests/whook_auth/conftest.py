"""An auth service over a real store, with a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.twins import sqlite_auth_store
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import AuthStore
from whook_auth.service import AuthService, open_auth


class WallClock:
    """Tells the time in UTC: the real one, plus what a test has added."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


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
