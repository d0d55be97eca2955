"""What tests of the chassis share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from whook.chassis import logs
from whook.chassis.verbosity import VERBOSITY


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """Put logging back as it was."""
    root = logging.getLogger()
    hidden = set(logs._hidden)
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    logs._hidden.clear()
    logs._hidden.update(hidden)
    VERBOSITY.level, VERBOSITY.share = "info", 0.0
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
