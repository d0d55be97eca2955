"""Readiness: named checks that say whether this process should get traffic.

Services register checks, admin.py answers /readyz from them. A check only reads state that the service keeps
anyway; it must never do I/O or wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

from whook.chassis.drain import Drain

Check = Callable[[], str | None]
"""Returns None when ready, otherwise in a few words what is missing."""


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

    def evaluate(self) -> dict[str, str | None]:
        """Return what each check says. One that raises counts as not ready."""
        found: dict[str, str | None] = {}
        for name, check in self._checks.items():
            try:
                found[name] = check()
            except Exception as error:  # noqa: BLE001 - a broken check must not take the probe down
                found[name] = f"check failed: {type(error).__name__}"
        return found

    @property
    def ready(self) -> bool:
        """Whether every check passes."""
        return all(reason is None for reason in self.evaluate().values())
