"""Readiness: named checks, and the drain before all of them."""

import pytest

from whook.chassis.drain import Drain
from whook.chassis.readiness import Degraded, Finding, Readiness


async def test_without_checks_it_is_ready() -> None:
    assert Readiness(Drain()).ready


async def test_every_check_counts_while_its_block_runs() -> None:
    readiness = Readiness(Drain())
    missing: list[str] = ["no lease"]
    with (
        readiness.check("lease", lambda: missing[0] if missing else None),
        readiness.check("bus", lambda: None),
    ):
        assert readiness.evaluate() == {"drain": None, "lease": "no lease", "bus": None}
        assert not readiness.ready
        missing.clear()
        assert readiness.ready
    assert readiness.evaluate() == {"drain": None}


async def test_a_broken_check_counts_as_not_ready() -> None:
    readiness = Readiness(Drain())

    def broken() -> None:
        raise KeyError("secret")

    with readiness.check("broken", broken):
        assert readiness.evaluate()["broken"] == "check failed: KeyError"


async def test_degraded_is_ready() -> None:
    readiness = Readiness(Drain())
    findings: list[Finding] = [Degraded("no new tunnels")]
    with readiness.check("directory", lambda: findings[0]):
        assert readiness.evaluate()["directory"] == Degraded("no new tunnels")
        assert (readiness.ready, readiness.degraded) == (True, 1)
        with readiness.check("lease", lambda: "no lease"):
            assert not readiness.ready
        findings[0] = None
        assert (readiness.ready, readiness.degraded) == (True, 0)


async def test_names_are_taken_once() -> None:
    readiness = Readiness(Drain())
    with readiness.check("bus", lambda: None):
        with pytest.raises(ValueError, match="bus"), readiness.check("bus", lambda: None):
            pass
        assert "bus" in readiness.evaluate()


async def test_a_drain_makes_it_unready() -> None:
    drain = Drain()
    readiness = Readiness(drain)
    drain.begin("SIGTERM")
    assert readiness.evaluate() == {"drain": "draining: SIGTERM"}
