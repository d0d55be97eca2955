"""A Redis server of the test's own, which it may kill."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Generator[RedisServer, None, None]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()
