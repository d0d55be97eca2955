"""What services publish in the same form: leases, links, heartbeats."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from whook.chassis.metrics import REGISTRY, Publisher
from whook.chassis.published import LeaseState, publish_heartbeat, publish_links


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


@dataclass
class Counts:
    received: int = 0
    sent: int = 0
    lag: float = 0.0
    lost: int = 0


@dataclass
class Waiting:
    pending: int


@dataclass
class Tunnel:
    link: Waiting = field(default_factory=lambda: Waiting(0))


def test_a_lease_is_held_from_its_first_renewal_until_it_is_lost() -> None:
    lease, before = LeaseState(), time.time()
    with Publisher() as to:
        lease.publish(to, "relay")
        assert sample("whook_lease_renewed_timestamp_seconds", lease="relay") == 0
        lease.failed(lost=True)
        assert sample("whook_lease_losses_total", lease="relay") == 0, "it was never held"
        lease.renewed()
        assert sample("whook_lease_held", lease="relay") == 1
        lease.failed()
        assert sample("whook_lease_held", lease="relay") == 1, "a renewal that fails is no loss yet"
        lease.failed(lost=True)
        lease.failed(lost=True)
        assert sample("whook_lease_held", lease="relay") == 0
        assert sample("whook_lease_losses_total", lease="relay") == 1
        lease.renewed(again=True)
        assert sample("whook_lease_losses_total", lease="relay") == 2, "lost without a word"
        lease.ended()
        assert sample("whook_lease_held", lease="relay") == 0
        assert sample("whook_lease_renewals_total", lease="relay", result="renewed") == 2
        assert sample("whook_lease_renewals_total", lease="relay", result="failed") == 4
        assert before <= (sample("whook_lease_renewed_timestamp_seconds", lease="relay") or 0) <= time.time()


def test_links_are_summed_up_by_their_kind_and_end() -> None:
    counts = Counts(received=5, sent=7, lag=0.5, lost=2)
    tunnels = [Tunnel(Waiting(10)), Tunnel(Waiting(20))]
    with Publisher() as to:
        publish_links(to, "tunnel", "relay", counts, lambda: tunnels)
        publish_heartbeat(to, "relay", counts)
        kinds = {"link": "tunnel", "end": "relay"}
        assert sample("whook_link_bytes_total", direction="received", **kinds) == 5
        assert sample("whook_link_bytes_total", direction="sent", **kinds) == 7
        assert sample("whook_link_pending_bytes", **kinds) == 30
        tunnels.pop()
        assert sample("whook_link_pending_bytes", **kinds) == 10
        assert sample("whook_heartbeat_lag_seconds", end="relay") == 0.5
        assert sample("whook_heartbeat_lost_total", end="relay") == 2
