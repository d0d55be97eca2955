"""Every byte that may not change does not: each case goes straight to a server and through the real tunnel.

One `whook dev` and one origin serve all cases, so that connections and pools are reused as in real life.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.dev import Running, whook_dev
from tests.support.fidelity import Case, compare, run
from tests.support.origin import Origin
from tests.system.fidelity_cases import ALL


@dataclass(frozen=True, slots=True)
class House:
    """The origin, and the tunnel that leads to it."""

    origin: Origin
    tunnel: Running


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with Origin() as origin, whook_dev(tmp_path_factory.mktemp("whook"), forward=origin.url) as tunnel:
        yield House(origin, tunnel)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_tunnel_changes_nothing(case: Case, house: House) -> None:
    direct = run(case, house.origin.port, house.tunnel.host, house.origin)
    tunnelled = run(case, house.tunnel.port, house.tunnel.host, house.origin)
    compare(direct, tunnelled)


def test_the_suite_is_as_large_as_promised() -> None:
    names = [case.name for case in ALL]
    assert len(names) >= 150
    assert len(set(names)) == len(names)
