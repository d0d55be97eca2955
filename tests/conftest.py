"""What is started once for all tests, and where their files are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import Postgres, running_postgres

MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that must be free there: a full run takes about half a gigabyte."""


def _in_memory() -> bool:
    """Whether files can be in memory: there is room, and what lies there may be executed."""
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False
    if found.f_flag & (os.ST_NOEXEC | os.ST_RDONLY) or not os.access(MEMORY, os.W_OK | os.X_OK):
        return False
    return found.f_bavail * found.f_frsize >= ROOM


def pytest_configure() -> None:
    """Keep the tests' files in memory where that can be: databases wait for the disk at each commit.

    They sync as always. What the tests kill is processes, and memory outlives those as a disk does.
    """
    if "TMPDIR" not in os.environ and _in_memory():
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # asks the environment again


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that stays up. Each test makes databases of its own in it."""
    with running_postgres() as server:
        yield server
