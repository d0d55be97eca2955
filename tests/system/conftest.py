"""What the system tests share: one cluster for all that restart, kill and starve it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.site import Site, running_site

_KEPT = pytest.StashKey[tuple[Site, ExitStack]]()


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster with all its tunnels. Each test leaves it whole.

    It outlives a module only as long as a later one wants it: other tests need the machine for themselves.
    """
    stash = request.config.stash
    if _KEPT not in stash:
        stack = ExitStack()
        request.config.add_cleanup(stack.close)
        stash[_KEPT] = stack.enter_context(running_site(tmp_path_factory.mktemp("cluster"))), stack
    site, stack = stash[_KEPT]
    yield site
    if not _wanted_after(request):
        del stash[_KEPT]
        stack.close()


def _wanted_after(request: pytest.FixtureRequest) -> bool:
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    last = max(n for n, item in enumerate(items) if item.module is request.module)
    return any("site" in item.fixturenames for item in items[last + 1 :])
