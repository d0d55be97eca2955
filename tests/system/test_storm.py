"""A storm: every tunnel drops at once, when its relay is killed, and all come back; real processes.

The default suite drops 300 tunnels. 10,000 on two relays need a machine with nothing else to do:
`nox -s cluster`, or WHOOK_TEST_CLUSTER=1. `nox -s bench -- storm` measures the same and asserts nothing.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from bench.storm import Outcome, Plan, run_storm

SMALL = Plan(tunnels=300, bystanders=20, webhooks=40.0, opening=300.0, deadline=90.0)
LARGE = Plan(tunnels=10_000, bystanders=100, webhooks=40.0, opening=250.0, deadline=240.0)

pytestmark = pytest.mark.timeout(900)


def all_came_back(plan: Plan) -> Outcome:
    outcome = run_storm(plan)
    assert outcome.missing == 0, outcome
    assert outcome.final == []  # nobody was refused for good
    assert outcome.failures == []  # no webhook failed whose tunnel was back, and none of a bystander
    for kind in ("back", "bystander") if plan.bystanders else ("back",):
        assert outcome.probe[kind]["answered"] > 0, outcome.probe
    return outcome


def test_all_tunnels_come_back() -> None:
    all_came_back(SMALL)


def test_those_that_ask_the_api_for_every_tunnel_come_back_too() -> None:
    """Clients whose relay ends in order, and that do not try it again."""
    all_came_back(replace(SMALL, tunnels=150, bystanders=0, relays=1, how="term", resume=False))


@pytest.mark.skipif(
    not os.environ.get("WHOOK_TEST_CLUSTER"),
    reason="needs a machine with nothing else to do: nox -s cluster",
)
def test_ten_thousand_tunnels_come_back() -> None:
    outcome = all_came_back(LARGE)
    assert outcome.probe["back"]["max_ms"] < 20_000
