"""What deploy/ ships, run with the real programs by `nox -s deploy`; elsewhere only what is quick runs.

A test that needs a program that is not installed skips itself and names it. What takes more than about two
seconds carries the mark `slow_deploy` and runs only where WHOOK_TEST_DEPLOY is set.
"""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("WHOOK_TEST_DEPLOY"):
        skip = pytest.mark.skip(reason="runs real programs for a while: nox -s deploy")
        for item in items:
            if item.get_closest_marker("slow_deploy") is not None:
                item.add_marker(skip)
