"""Webhooks in the shapes that GitHub, Stripe, Chargebee and Standard Webhooks document, signed as they sign.

The values are made up; the shapes and the ways of signing follow the vendors' public documentation. Each
function gives one webhook's header lines and body, with text outside ASCII where a vendor would send such.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass

GITHUB_SECRET = b"It's a Secret to Everybody, nearly"
GITHUB_CAP = 25 * 1024 * 1024
"""GitHub sends no webhook larger than this."""
STRIPE_SECRET = "whsec_0123456789abcdefghijklmnopqrstuv"
STANDARD_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
CHARGEBEE_LOGIN = (b"whook-hooks", b"p\xc3\xa4ss:w\xc3\xb6rd")


@dataclass(frozen=True, slots=True)
class Webhook:
    """Header lines without line breaks, and the body."""

    lines: tuple[bytes, ...]
    body: bytes


def compact(value: object) -> bytes:
    """Give JSON as most senders write it: no spaces, text as UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# --- GitHub: HMAC-SHA256 of the raw body, in X-Hub-Signature-256


def github_user(login: str, number: int) -> dict[str, object]:
    """Give an account in GitHub's shape."""
    api = f"https://api.github.com/users/{login}"
    return {
        "login": login,
        "id": number,
        "node_id": base64.b64encode(b"04:User%d" % number).decode(),
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number}?v=4",
        "url": api,
        "html_url": f"https://github.com/{login}",
        "events_url": api + "/events{/privacy}",
        "type": "User",
        "site_admin": False,
    }


def github_repository() -> dict[str, object]:
    """Give a repository in GitHub's shape."""
    return {
        "id": 700_000_001,
        "node_id": "R_kgDOKbnuAQ",
        "name": "tunnel",
        "full_name": "ada/tunnel",
        "private": False,
        "owner": github_user("ada", 1815),
        "html_url": "https://github.com/ada/tunnel",
        "description": "A tunnel — naïve, but mine 🚇",
        "fork": False,
        "created_at": 1_760_000_000,
        "updated_at": "2026-10-09T08:53:20Z",
        "size": 2048,
        "language": "Python",
        "topics": ["webhooks", "tunnel"],
        "visibility": "public",
        "default_branch": "main",
    }


def github_commit(number: int, message: str) -> dict[str, object]:
    """Give one commit of a push in GitHub's shape."""
    sha = hashlib.sha1(b"commit %d" % number).hexdigest()
    person = {"name": "Ada Lovelace", "email": "ada@example.org", "username": "ada"}
    return {
        "id": sha,
        "tree_id": hashlib.sha1(b"tree %d" % number).hexdigest(),
        "distinct": True,
        "message": message,
        "timestamp": "2026-11-01T12:00:00+01:00",
        "url": f"https://github.com/ada/tunnel/commit/{sha}",
        "author": person,
        "committer": person,
        "added": [f"src/new_{number}.py"],
        "removed": [],
        "modified": ["README.md", f"docs/{number}.md"],
    }


def github(event: str, payload: dict[str, object], *, form: bool = False) -> Webhook:
    """Sign and wrap a payload the way GitHub delivers it, as JSON or as a form."""
    body = compact(payload)
    kind = b"application/json"
    if form:
        quoted = "".join(chr(b) if chr(b).isalnum() and b < 128 else f"%{b:02X}" for b in body)
        body, kind = b"payload=" + quoted.encode(), b"application/x-www-form-urlencoded"
    return Webhook(
        (
            b"User-Agent: GitHub-Hookshot/0123abc",
            b"Accept: */*",
            b"Content-Type: " + kind,
            b"X-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-4c9367dc0958",
            b"X-GitHub-Event: " + event.encode(),
            b"X-GitHub-Hook-ID: 292430182",
            b"X-GitHub-Hook-Installation-Target-ID: 79929171",
            b"X-GitHub-Hook-Installation-Target-Type: repository",
            b"X-Hub-Signature: sha1=" + hmac.new(GITHUB_SECRET, body, "sha1").hexdigest().encode(),
            b"X-Hub-Signature-256: sha256=" + hmac.new(GITHUB_SECRET, body, "sha256").hexdigest().encode(),
        ),
        body,
    )


def github_ping(*, form: bool = False) -> Webhook:
    """Give the first webhook that GitHub sends to a new hook."""
    hook = {
        "type": "Repository",
        "id": 292430182,
        "name": "web",
        "active": True,
        "events": ["push", "pull_request"],
        "config": {"content_type": "json", "insecure_ssl": "0", "url": "https://demo.example.org/hook"},
        "updated_at": "2026-11-01T11:00:00Z",
        "created_at": "2026-11-01T11:00:00Z",
    }
    payload = {"zen": "Keep it logically awesome.", "hook_id": 292430182, "hook": hook}
    payload |= {"repository": github_repository(), "sender": github_user("ada", 1815)}
    return github("ping", payload, form=form)


def github_push(size: int = 0) -> Webhook:
    """Give a push; with `size`, one whose body is exactly so many bytes long."""

    def payload(filler: str) -> dict[str, object]:
        commits = [
            github_commit(n, f"Change {n}: fix “quotes” & <tags>\n\nSigned-off-by: Ada") for n in range(20)
        ]
        commits[0]["message"] = f"{commits[0]['message']}{filler}"
        return {
            "ref": "refs/heads/main",
            "before": "0" * 40,
            "after": commits[-1]["id"],
            "repository": github_repository(),
            "pusher": {"name": "ada", "email": "ada@example.org"},
            "sender": github_user("ada", 1815),
            "created": False,
            "deleted": False,
            "forced": True,
            "base_ref": None,
            "compare": "https://github.com/ada/tunnel/compare/000000000000...main",
            "commits": commits,
            "head_commit": commits[-1],
        }

    missing = size - len(compact(payload("")))
    return github("push", payload("é" * (missing // 2) + "x" * (missing % 2) if missing > 0 else ""))


# --- Stripe: HMAC-SHA256 of "timestamp.body", in Stripe-Signature


def stripe_event() -> Webhook:
    """Give a Stripe event as Stripe writes it: indented JSON, so that white space counts."""
    now = int(time.time())
    intent = {
        "id": "pi_3Whook0000000000000000001",
        "object": "payment_intent",
        "amount": 2_599,
        "amount_received": 2_599,
        "currency": "eur",
        "customer": "cus_Whook00000001",
        "description": "Café crème, Größe L",
        "livemode": False,
        "metadata": {"order_id": "6735", "note": "5 < 6 & 7 > 6"},
        "payment_method_types": ["card", "sepa_debit"],
        "status": "succeeded",
        "next_action": None,
    }
    event = {
        "id": "evt_1Whook000000000000000001",
        "object": "event",
        "api_version": "2026-09-30.clover",
        "created": now,
        "data": {"object": intent},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": "req_Whook000000001", "idempotency_key": "0b1c2d3e-0000-4000-8000-000000000001"},
        "type": "payment_intent.succeeded",
    }
    body = json.dumps(event, indent=2, ensure_ascii=False).encode()
    signed = hmac.new(STRIPE_SECRET.encode(), b"%d.%b" % (now, body), "sha256").hexdigest()
    rolled = hmac.new(b"whsec_the_secret_before", b"%d.%b" % (now, body), "sha256").hexdigest()
    return Webhook(
        (
            b"Accept: */*; q=0.5, application/xml",
            b"Cache-Control: no-cache",
            b"Content-Type: application/json; charset=utf-8",
            b"User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            f"Stripe-Signature: t={now},v1={rolled},v1={signed},v0={'0' * 64}".encode(),
        ),
        body,
    )


# --- Standard Webhooks: HMAC-SHA256 of "id.timestamp.body", base64, in webhook-signature


def standard_webhook() -> Webhook:
    """Give a webhook by the Standard Webhooks specification, with two signatures as during a key rotation."""
    now, identity = int(time.time()), "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
    body = compact(
        {"type": "contact.created", "timestamp": "2026-11-03T20:26:10.344522Z", "data": {"name": "Zoë"}}
    )
    signed = b"%b.%d.%b" % (identity.encode(), now, body)
    keys = (b"the key before this one, retired", bytes(range(32)))
    signatures = b" ".join(b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys)
    return Webhook(
        (
            b"Content-Type: application/json",
            b"webhook-id: " + identity.encode(),
            b"webhook-timestamp: %d" % now,
            b"webhook-signature: " + signatures,
        ),
        body,
    )


# --- Chargebee: no signature; basic authentication, and the event's own shape


def chargebee_event() -> Webhook:
    """Give a Chargebee event; basic authentication is how Chargebee tells a receiver that it is theirs."""
    subscription = {
        "id": "AzZjX0Whook1",
        "customer_id": "AzZjX0Whook0",
        "status": "active",
        "currency_code": "EUR",
        "billing_period": 1,
        "billing_period_unit": "month",
        "current_term_start": 1_762_000_000,
        "current_term_end": 1_764_592_000,
        "subscription_items": [
            {"item_price_id": "basic-EUR-Monthly", "item_type": "plan", "quantity": 1, "unit_price": 1_000}
        ],
        "has_scheduled_changes": False,
        "deleted": False,
        "object": "subscription",
    }
    customer = {"id": "AzZjX0Whook0", "first_name": "Søren", "auto_collection": "on", "object": "customer"}
    event = {
        "id": "ev_AzZjX0Whook2",
        "occurred_at": 1_762_000_001,
        "source": "admin_console",
        "user": "ada@example.org",
        "object": "event",
        "api_version": "v2",
        "content": {"subscription": subscription, "customer": customer},
        "event_type": "subscription_created",
        "webhook_status": "scheduled",
        "webhooks": [{"id": "whv2_AzZjX0Whook3", "webhook_status": "scheduled", "object": "webhook"}],
    }
    login = base64.b64encode(b":".join(CHARGEBEE_LOGIN))
    return Webhook(
        (
            b"Content-Type: application/json;charset=UTF-8",
            b"User-Agent: ChargeBee",
            b"Authorization: Basic " + login,
        ),
        json.dumps(event, indent=4, ensure_ascii=False).encode(),
    )
