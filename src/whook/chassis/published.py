"""What several services publish in the same form: leases, links and their heartbeats.

Called by the services where they publish their metrics. Knows of a link only what it reads, since links are
not the chassis' business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from whook.chassis.metrics import Publisher


class _Traffic(Protocol):
    received: int
    sent: int


class _Link(Protocol):
    @property
    def pending(self) -> int: ...


class _Held(Protocol):
    @property
    def link(self) -> _Link: ...


class _Heartbeat(Protocol):
    lag: float
    lost: int


def publish_links(
    to: Publisher, link: str, end: str, traffic: _Traffic, held: Callable[[], Iterable[_Held]]
) -> None:
    """Publish what the links of a kind (``tunnel`` or ``trunk``) carry, as seen from one ``end``."""
    carried = "Bytes that links have carried, by their kind and the end that counts."
    waiting = "Bytes that wait to be sent on links."

    def pending() -> int:
        return sum(one.link.pending for one in held())

    kinds = {"link": link, "end": end}
    to.counter("whook_link_bytes", carried, lambda: traffic.received, direction="received", **kinds)
    to.counter("whook_link_bytes", carried, lambda: traffic.sent, direction="sent", **kinds)
    to.gauge("whook_link_pending_bytes", waiting, pending, **kinds)


def publish_heartbeat(to: Publisher, end: str, heartbeat: _Heartbeat) -> None:
    """Publish how well silence is noticed."""
    late = "Seconds by which the last look at silent links came late."
    to.gauge("whook_heartbeat_lag_seconds", late, lambda: heartbeat.lag, end=end)
    given_up = "Links given up because the other end was silent."
    to.counter("whook_heartbeat_lost", given_up, lambda: heartbeat.lost, end=end)


class LeaseState:
    """What is published about one lease: whether it is held, when it was renewed, how often that failed."""

    __slots__ = ("failures", "held", "losses", "renewals", "renewed_at")

    def __init__(self) -> None:
        self.held = False
        self.renewed_at = 0.0
        """Seconds since the epoch; 0 before the first time."""
        self.renewals = 0
        self.failures = 0
        self.losses = 0

    def renewed(self, *, again: bool = False) -> None:
        """Note that it was given; ``again`` if it had been lost meanwhile."""
        self.held = True
        self.renewed_at = time.time()
        self.renewals += 1
        self.losses += again

    def failed(self, *, lost: bool = False) -> None:
        """Note that it could not be renewed; ``lost`` if it is certain that it is gone."""
        self.failures += 1
        if lost:
            self.losses += self.held
            self.held = False

    def ended(self) -> None:
        """Note that it was given back, or that nobody renews it any more."""
        self.held = False

    def publish(self, to: Publisher, lease: str) -> None:
        """Publish it under the name ``lease``."""
        attempts = "Attempts to renew a lease, by what became of them."
        stamp = "When a lease was renewed, in seconds since the epoch; 0 before the first time."
        lost = "Leases that were lost while they were wanted."
        to.gauge("whook_lease_held", "1 while a lease is held.", lambda: self.held, lease=lease)
        to.gauge("whook_lease_renewed_timestamp_seconds", stamp, lambda: self.renewed_at, lease=lease)
        to.counter("whook_lease_renewals", attempts, lambda: self.renewals, lease=lease, result="renewed")
        to.counter("whook_lease_renewals", attempts, lambda: self.failures, lease=lease, result="failed")
        to.counter("whook_lease_losses", lost, lambda: self.losses, lease=lease)
