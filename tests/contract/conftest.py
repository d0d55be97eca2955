"""Opens every twin of a port, one after the other, for the contract tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.queues import QUEUES, OpenQueue, QueueTwin
from tests.support.twins import BACKPLANES, SQLITE, STORES, BackplaneTwin, StoreTwin, postgresql
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import (
    AuthStore,
    Backplane,
    Blobs,
    Bus,
    Directory,
    History,
    Projects,
    Queue,
)
from whook.backplane.sql.history_packs import Packing
from whook.chassis.sealing import Sealer


@pytest.fixture(params=BACKPLANES, ids=lambda twin: twin.name)
def backplane_twin(request: pytest.FixtureRequest) -> BackplaneTwin:
    twin: BackplaneTwin = request.param
    return twin


@pytest.fixture
async def backplane(backplane_twin: BackplaneTwin) -> AsyncGenerator[Backplane, None]:
    async with backplane_twin.open() as opened:
        yield opened


@pytest.fixture
def directory(backplane: Backplane) -> Directory:
    return backplane.directory


@pytest.fixture
def bus(backplane: Backplane) -> Bus:
    return backplane.bus


@pytest.fixture(params=STORES)
def store_twin(request: pytest.FixtureRequest) -> StoreTwin:
    return SQLITE if request.param == "sqlite" else postgresql(request.getfixturevalue("postgres"))


@pytest.fixture
def store_bus() -> Bus:
    """What stores publish on: any twin will do."""
    return MemoryBus()


@pytest.fixture
async def projects(store_twin: StoreTwin, store_bus: Bus, tmp_path: Path) -> AsyncGenerator[Projects, None]:
    async with store_twin.open_projects(tmp_path, store_bus) as opened:
        yield opened


@pytest.fixture
async def auth_store(store_twin: StoreTwin, tmp_path: Path) -> AsyncGenerator[AuthStore, None]:
    async with store_twin.open_auth_store(tmp_path) as opened:
        yield opened


@pytest.fixture(params=QUEUES, ids=lambda twin: twin.name)
def queue_twin(request: pytest.FixtureRequest) -> QueueTwin:
    twin: QueueTwin = request.param
    return twin


@pytest.fixture
async def opened(queue_twin: QueueTwin, tmp_path: Path) -> AsyncGenerator[OpenQueue, None]:
    async with queue_twin.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def queue(opened: OpenQueue) -> Queue:
    return opened.queue


@pytest.fixture(params=["plain", "sealed"])
def sealer(request: pytest.FixtureRequest) -> Sealer:
    return Sealer([bytes(range(32))] if request.param == "sealed" else [])


@pytest.fixture
def packing(sealer: Sealer) -> Packing | None:
    """Rows where nothing is sealed, small packs where it is: tests of the module itself do it crosswise."""
    return Packing(least=1, most=3) if sealer.seals else None


@pytest.fixture
async def history_and_blobs(
    store_twin: StoreTwin, sealer: Sealer, packing: Packing | None, tmp_path: Path
) -> AsyncGenerator[tuple[History, Blobs], None]:
    async with store_twin.open_history(tmp_path, sealer, packing) as opened:
        yield opened


@pytest.fixture
def history(history_and_blobs: tuple[History, Blobs]) -> History:
    return history_and_blobs[0]


@pytest.fixture
def blobs(history_and_blobs: tuple[History, Blobs]) -> Blobs:
    return history_and_blobs[1]
