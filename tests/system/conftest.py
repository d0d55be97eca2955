"""What the system tests share: one cluster for all that restart, kill and starve it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.site import Site, running_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster with all its tunnels. Each test leaves it whole."""
    with running_site(tmp_path_factory.mktemp("cluster")) as running:
        yield running
