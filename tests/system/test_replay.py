"""A replay is the webhook again: in order, byte for byte, and its signature still verifies.

A real server, a real client, and 1,000 webhooks signed by the vendors' rules, replayed by `whook events
replay --since` through the tunnel, and by `--to` straight to another local server.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import standardwebhooks
import stripe

from tests.support.deadlines import DEADLINE
from tests.support.dev import Running, Served, whook_connect, whook_serve
from tests.support.origin import Origin, ok
from tests.support.rawhttp import Message, Peer, post_bytes
from tests.support.whook_process import clean_environment
from tests.system import vendor_payloads as vendors
from tests.system.test_payloads import github_verifies, text
from tests.system.vendor_payloads import Webhook

COUNT = 1_000


@dataclass(frozen=True, slots=True)
class House:
    """A server, the tunnel of the project shop to an origin, and the moment when the test began."""

    server: Served
    tunnel: Running
    origin: Origin
    began: datetime

    def send(self, webhooks: Sequence[Webhook]) -> list[Message]:
        """Send webhooks one after the other on one connection; give what the local server received."""
        with Peer.connect(self.tunnel.port) as sender:
            for number, webhook in enumerate(webhooks):
                target = b"/hooks?n=%d" % number
                sender.send(post_bytes(self.tunnel.host, webhook.body, target, *webhook.lines))
                assert sender.read_response(b"POST").status == 200
        return list(self.origin.wait_received(len(webhooks)))

    def recorded(self, count: int) -> None:
        """Wait until so many events are in the history."""
        headers = {"Authorization": f"Bearer {self.server.token}"}
        url = f"{self.server.api}/v1/projects/shop/events"
        ends = time.monotonic() + DEADLINE
        seen, after = 0, 0
        with httpx.Client(headers=headers, timeout=DEADLINE, trust_env=False) as client:
            while seen < count:
                told = (
                    client.get(f"{url}/follow", params={"after": after, "wait": 5}).raise_for_status().json()
                )
                seen += len(told["events"])
                after = told["next"]
                assert time.monotonic() < ends, f"{seen} of {count} events are recorded"

    def events(self, *words: str) -> str:
        """Run `whook events …`, which must succeed; give what it printed."""
        home = self.server.process.home / "client"
        home.mkdir(exist_ok=True)
        environment = clean_environment(home) | {
            "WHOOK_SERVER": self.server.api,
            "WHOOK_TOKEN": self.server.token,
            "WHOOK_PROJECT": "shop",
        }
        command = [sys.executable, "-m", "whook_cli", "events", *words]
        done = subprocess.run(
            command, env=environment, cwd=home, capture_output=True, timeout=3 * DEADLINE, check=False
        )
        assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    began = datetime.now(UTC) - timedelta(seconds=1)
    with (
        Origin(ok) as origin,
        whook_serve(tmp_path) as server,
        whook_connect(server, "shop", forward=origin.url) as tunnel,
    ):
        yield House(server, tunnel, origin, began)


def stripe_verifies(arrived: Message) -> bool:
    signature = text(arrived, b"Stripe-Signature")
    event = stripe.Webhook.construct_event(arrived.body, signature, vendors.STRIPE_SECRET)
    return bool(event["type"] == "payment_intent.succeeded")


def standard_verifies(arrived: Message) -> bool:
    names = ("webhook-id", "webhook-timestamp", "webhook-signature")
    headers = {name: text(arrived, name.encode()) for name in names}
    told = standardwebhooks.Webhook(vendors.STANDARD_SECRET).verify(arrived.body, headers)
    return bool(told["type"] == "contact.created")


VENDORS: list[tuple[Callable[[], Webhook], Callable[[Message], bool]]] = [
    (vendors.github_ping, github_verifies),
    (vendors.stripe_event, stripe_verifies),
    (vendors.standard_webhook, standard_verifies),
    (lambda: vendors.github_push(40_000), github_verifies),
]


def many(count: int) -> list[Webhook]:
    return [VENDORS[number % len(VENDORS)][0]() for number in range(count)]


def own(message: Message) -> list[bytes]:
    """Give the header lines that are the sender's: all but what whook says about this delivery."""
    return [line for line in message.lines if not line.startswith((b"Whook-Attempt:", b"Whook-Replay:"))]


def assert_replayed(before: Sequence[Message], after: Sequence[Message]) -> None:
    assert len(after) == len(before)
    for number, (first, again) in enumerate(zip(before, after, strict=True)):
        assert again.start_line == first.start_line
        assert again.body == first.body
        assert own(again) == own(first)
        assert VENDORS[number % len(VENDORS)][1](again)


def test_a_thousand_webhooks_again(house: House) -> None:
    """Point 5 of issue 4."""
    before = house.send(many(COUNT))
    house.recorded(COUNT)
    said = house.events("replay", "--since", house.began.isoformat())
    assert said == f"Queued {COUNT} events for delivery, in order.\n"
    after = house.origin.wait_received(2 * COUNT)[COUNT:]
    assert_replayed(before, after)
    for message in after:
        assert message.value(b"Whook-Attempt") == b"2"
        assert message.value(b"Whook-Replay") == b"1"


def test_a_thousand_webhooks_to_another_server(house: House) -> None:
    before = house.send(many(COUNT))
    house.recorded(COUNT)
    with Origin(ok) as other:
        said = house.events("replay", "--since", house.began.isoformat(), "--to", other.url)
        assert said.splitlines()[-1] == f"Sent {COUNT} events to {other.url}."
        after = list(other.received)
    assert [message.body for message in after] == [message.body for message in before]
    for number, (first, again) in enumerate(zip(before, after, strict=True)):
        assert again.start_line == first.start_line
        assert VENDORS[number % len(VENDORS)][1](again)
        # What whook adds to a delivery comes last, so the sender's own lines are in front of it.
        mine = [line for line in again.lines if not line.startswith(b"Whook-")]
        assert first.lines[: len(mine)] == mine


def test_a_replay_waits_for_a_tunnel(house: House) -> None:
    """Replays are queued like what waits: nobody connected now, delivered when somebody is."""
    before = house.send(many(8))
    house.recorded(8)
    house.tunnel.process.stop()
    said = house.events("replay", "--since", house.began.isoformat())
    assert said == "Queued 8 events for delivery, in order.\n"
    assert len(house.origin.received) == 8
    with whook_connect(house.server, "shop", forward=house.origin.url):
        after = house.origin.wait_received(16)[8:]
    assert_replayed(before, after)
