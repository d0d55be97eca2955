"""The audit trail: who did what to what, when, from where, with what outcome.

Changes are written by the store in their own transaction, from entries made here; refusals, which change
nothing, are written here and bounded in rate, so that a stranger can neither fill the database nor hide what
others do. It must never hold a token, a code or a password.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import structlog
import trio

from whook.backplane.ports import (
    CALLER,
    TOPIC_AUDIT,
    AuditEntry,
    AuthDenied,
    AuthStore,
    Bus,
    BusGap,
    Denied,
    Outcome,
    Unavailable,
    decode_denied,
)
from whook.chassis.ids import new_id
from whook_auth.buckets import Buckets

PER_ADDRESS = (100, 1.0)
"""Refusals written for one address: in a row, and each second for long."""
ALTOGETHER = (1_000, 50.0)
"""The same for all addresses together."""
_COUNTED = (
    *("token.use", "tunnel.open", "tunnel.token", "tunnel.connect"),
    *("events:read", "events:replay", "projects:write"),
)
RETRY = 1.0
"""Seconds until a bus that is gone is asked again."""

_LENGTH = 255
_ADDRESS_LENGTH = 64

_log = structlog.get_logger("whook.auth.audit")


class AuditTrail:
    """Makes entries, and writes those of refusals."""

    def __init__(self, store: AuthStore, now: Callable[[], datetime]) -> None:
        """``now`` tells the time in UTC."""
        self._store = store
        self._now = now
        self.decisions = {(action, result): 0 for action in _COUNTED for result in ("granted", "refused")}
        """How often what was decided, by the action: what relays refused as well. Others are not counted."""
        self._each = Buckets(*PER_ADDRESS)
        self._all = Buckets(*ALTOGETHER)

    def entry(
        self,
        action: str,
        *,
        actor: str = "",
        target: str = "",
        detail: str = "",
        outcome: Outcome = "ok",
        address: str | None = None,
    ) -> AuditEntry:
        """Return an entry for the caller's change; the address is that of the request being served."""
        return AuditEntry(
            id=new_id("aud"),
            at=self._now(),
            action=action,
            outcome=outcome,
            actor=_clean(actor, _LENGTH),
            target=_clean(target, _LENGTH),
            address=_clean(CALLER.get() if address is None else address, _ADDRESS_LENGTH),
            detail=_clean(detail, _LENGTH),
        )

    def count(self, action: str, result: str) -> None:
        """Count a decision, if its action is one of those that are counted."""
        if (action, result) in self.decisions:
            self.decisions[action, result] += 1

    async def refused(
        self,
        action: str,
        *,
        actor: str = "",
        target: str = "",
        detail: str = "",
        address: str | None = None,
        unwritten: int = 0,
    ) -> None:
        """Write a refusal, unless there are too many; the next one then says how many were left out.

        A database that is gone does not turn a refusal into anything else.
        """
        self.count(action, "refused")
        where = CALLER.get() if address is None else address
        if self._each.take(where) or self._all.take(""):
            return
        missing = self._each.refused(where) + self._all.refused("") + unwritten
        if missing:
            detail = f"{detail} (and {missing} refusals before it that were not written)"
        entry = self.entry(
            action, actor=actor, target=target, detail=detail, outcome="refused", address=where
        )
        try:
            await self._store.append_audit([entry])
        except Unavailable as error:
            _log.warning("a refusal is not in the audit trail", action=action, actor=actor, error=str(error))

    @asynccontextmanager
    async def watching(self, action: str, actor: str, target: str) -> AsyncGenerator[None]:
        """Write the refusal that leaves the block as AuthDenied."""
        try:
            yield
            self.count(action, "granted")
        except AuthDenied as denied:
            await self.refused(action, actor=actor, target=target, detail=f"{denied.reason}: {denied.detail}")  # noqa: ASYNC120
            raise

    async def follow(
        self, bus: Bus, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write what relays refused, for ever. What the bus loses stands in their logs."""
        started = False
        while True:
            try:
                async with bus.subscribe(TOPIC_AUDIT) as news:
                    if not started:
                        started = True
                        task_status.started()
                    while True:
                        try:
                            async for _, message in news:
                                denied = decode_denied(message)
                                if denied is not None:
                                    await self._take(denied)
                        except BusGap:
                            await trio.lowlevel.checkpoint()
            except Unavailable as error:
                _log.warning("cannot follow the refusals of relays", error=str(error))
            if not started:
                started = True
                task_status.started()
            await trio.sleep(RETRY)

    async def _take(self, denied: Denied) -> None:
        await self.refused(
            "tunnel.connect",
            target=denied.relay_id,
            detail=denied.reason,
            address=denied.address,
            unwritten=denied.suppressed,
        )


def _clean(text: str, length: int) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:length])
