"""Vendors' webhooks arrive verifiable: signed on one side, verified on the other by the vendors' libraries.

A signature covers the raw body and headers, so one changed byte on the way fails these tests; each test of a
vendor also shows that its verification would notice.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass

import chargebee
import pytest
import standardwebhooks
import stripe

from tests.support.dev import Running, whook_dev
from tests.support.origin import Origin, reply, response
from tests.support.rawhttp import Message, post
from tests.system import vendor_payloads as vendors
from tests.system.vendor_payloads import Webhook


@dataclass(frozen=True, slots=True)
class House:
    """The origin, and the tunnel that leads to it."""

    origin: Origin
    tunnel: Running

    def deliver(self, webhook: Webhook) -> Message:
        """Send a webhook to the public side; give what the local server received."""
        self.origin.reset()
        self.origin.script(reply(response(b"", status=b"202 Accepted")))
        answer = post(self.tunnel.port, self.tunnel.host, webhook.body, b"/hooks/in?x=1", *webhook.lines)
        self.origin.check()
        assert answer.status == 202
        (arrived,) = self.origin.received
        return arrived


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with Origin() as origin, whook_dev(tmp_path_factory.mktemp("whook"), forward=origin.url) as tunnel:
        yield House(origin, tunnel)


def text(message: Message, name: bytes) -> str:
    return message.value(name).decode()


def github_verifies(arrived: Message) -> bool:
    """Do what GitHub's documentation tells a receiver to do."""
    wanted = "sha256=" + hmac.new(vendors.GITHUB_SECRET, arrived.body, "sha256").hexdigest()
    return hmac.compare_digest(wanted, text(arrived, b"X-Hub-Signature-256"))


@pytest.mark.parametrize(
    "webhook",
    [
        pytest.param(vendors.github_ping(), id="ping"),
        pytest.param(vendors.github_ping(form=True), id="ping as a form"),
        pytest.param(vendors.github_push(), id="push"),
        pytest.param(vendors.github_push(1024 * 1024), id="push of 1 MiB"),
    ],
)
def test_github(webhook: Webhook, house: House) -> None:
    assert github_verifies(house.deliver(webhook))


def test_github_at_its_cap(house: House) -> None:
    webhook = vendors.github_push(vendors.GITHUB_CAP)
    assert len(webhook.body) == vendors.GITHUB_CAP
    arrived = house.deliver(webhook)
    assert github_verifies(arrived)
    assert json.loads(arrived.body)["ref"] == "refs/heads/main"


def test_github_verification_notices_a_changed_byte(house: House) -> None:
    webhook = vendors.github_ping()
    assert not github_verifies(house.deliver(Webhook(webhook.lines, webhook.body + b"\n")))


def test_stripe(house: House) -> None:
    arrived = house.deliver(vendors.stripe_event())
    signature = text(arrived, b"Stripe-Signature")
    event = stripe.Webhook.construct_event(arrived.body, signature, vendors.STRIPE_SECRET)
    assert event["type"] == "payment_intent.succeeded"
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(arrived.body + b" ", signature, vendors.STRIPE_SECRET)


def test_standard_webhooks(house: House) -> None:
    arrived = house.deliver(vendors.standard_webhook())
    headers = {
        name: text(arrived, name.encode())
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    }
    verifier = standardwebhooks.Webhook(vendors.STANDARD_SECRET)
    assert verifier.verify(arrived.body, headers)["type"] == "contact.created"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verifier.verify(arrived.body + b" ", headers)


def test_chargebee(house: House) -> None:
    """Chargebee does not sign: the login proves the sender, the library reads the event from the raw body."""
    arrived = house.deliver(vendors.chargebee_event())
    scheme, _, login = arrived.value(b"Authorization").partition(b" ")
    assert scheme == b"Basic"
    assert base64.b64decode(login).split(b":", 1) == list(vendors.CHARGEBEE_LOGIN)
    event = chargebee.Chargebee(api_key="test", site="demo-test").Event.deserialize(arrived.body)
    assert event.event_type == "subscription_created"
    assert event.content["customer"]["first_name"] == "Søren"
