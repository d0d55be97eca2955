"""Readiness: named checks that say whether this process should get traffic, and whether it lacks something.

Services register checks, admin.py answers /readyz from them. A check only reads state that the service keeps
anyway; it must never do I/O or wait.

What is out of order here alone makes the process *unready*: others can take its traffic. What is out of order
for all processes of its kind at once, while each goes on with what it knows, makes it *degraded*: a load
balancer that took them all out would turn a nuisance into an outage (docs/adr/0006).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

from whook.chassis.drain import Drain


@dataclass(frozen=True, slots=True)
class Degraded:
    """What a check returns when the process serves on, though not everything works."""

    reason: str
    """In a few words what is missing."""


Finding = str | Degraded | None
"""What a check found: None when all is well; in a few words what is missing when the process is not ready."""
Check = Callable[[], Finding]


class Readiness:
    """The checks of one process. A drain that has begun makes it unready before anything else happens."""

    def __init__(self, drain: Drain) -> None:
        self._checks: dict[str, Check] = {
            "drain": lambda: f"draining: {drain.reason}" if drain.begun else None
        }

    @contextlib.contextmanager
    def check(self, name: str, check: Check) -> Generator[None]:
        """Let ``check`` count as long as the block runs. Raises ValueError if the name is taken."""
        if name in self._checks:
            raise ValueError(f"readiness check {name!r} is already registered")
        self._checks[name] = check
        try:
            yield
        finally:
            del self._checks[name]

    def evaluate(self) -> dict[str, Finding]:
        """Return what each check says. One that raises counts as not ready."""
        found: dict[str, Finding] = {}
        for name, check in self._checks.items():
            try:
                found[name] = check()
            except Exception as error:  # noqa: BLE001 - a broken check must not take the probe down
                found[name] = f"check failed: {type(error).__name__}"
        return found

    @property
    def ready(self) -> bool:
        """Whether the process should get traffic: every check passes, or is merely degraded."""
        return is_ready(self.evaluate())

    @property
    def degraded(self) -> int:
        """How many checks are degraded."""
        return sum(isinstance(found, Degraded) for found in self.evaluate().values())


def is_ready(findings: Mapping[str, Finding]) -> bool:
    """Return whether a process with these findings should get traffic."""
    return not any(isinstance(found, str) for found in findings.values())
