"""What is started once for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that stays up. Each test makes databases of its own in it."""
    with running_postgres() as server:
        yield server
