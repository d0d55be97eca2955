"""What the login pages look like: plain HTML with one style sheet, no script, every text escaped.

Used by `pages` alone. Owns the markup and the Content-Security-Policy that goes with it; decides nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1d21; --soft: #575d66; --page: #f4f5f7; --card: #fff;
  --line: #d5d9df; --go: #1f5fd0; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e9ebee; --soft: #a6adb8; --page: #14171b; --card:
  #1d2126; --line: #3a4048; --go: #7eaaf5; --bad: #f2867e; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background:
  var(--page); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 26rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .75rem; padding: 2rem; }
h1 { margin: 0 0 1rem; font-size: 1.375rem; line-height: 1.25; }
p { margin: 0 0 1rem; } .soft { color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
label { display: block; margin-bottom: .25rem; font-weight: 600; }
input { width: 100%; margin-bottom: 1rem; padding: .625rem .75rem; font: inherit; color: inherit;
  background: transparent; border: 1px solid var(--soft); border-radius: .5rem; }
.code { font: 600 1.5rem/1.4 ui-monospace, monospace; letter-spacing: .1em; text-align: center; }
dl { margin: 0 0 1.25rem; display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.row { display: flex; gap: .75rem; } .row button { flex: 1; }
button { width: 100%; padding: .625rem 1rem; font: inherit; font-weight: 600; cursor: pointer;
  border-radius: .5rem; border: 1px solid var(--go); background: var(--go); color: var(--card); }
button.plain { background: transparent; color: var(--ink); border-color: var(--soft); }
button.link { width: auto; padding: 0; border: 0; background: none; color: var(--go); text-decoration:
  underline; }
:focus-visible { outline: 3px solid var(--go); outline-offset: 2px; }
footer { margin-top: 1.5rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: .875rem; }
"""

_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""Nothing is loaded, nothing runs, nobody may frame it, and no copy is kept."""


def page(title: str, body: str, *, user: str = "", token: str = "") -> str:
    """Return a whole page; with ``user``, it says who is logged in and lets them log out."""
    footer = ""
    if user:
        footer = (
            f'<footer><form method="post" action="/logout">{hidden("csrf", token)}'
            f"Logged in as <strong>{escape(user)}</strong>. "
            '<button class="link">Log out</button></form></footer>'
        )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · whook</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}{footer}</main></body></html>\n"
    )


def hidden(name: str, value: str) -> str:
    """Return a field that nobody sees."""
    return f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph; one of the kind ``bad`` is read out at once."""
    role = ' role="alert"' if kind == "bad" else ""
    return f'<p class="{kind}"{role}>{escape(text)}</p>' if text else ""


def login(error: str, token: str, name: str, user_code: str) -> str:
    """Return the login page."""
    body = (
        f"{paragraph(error, 'bad')}"
        f'<form method="post" action="/login">{hidden("csrf", token)}{hidden("user_code", user_code)}'
        '<label for="name">User name</label>'
        f'<input id="name" name="name" value="{escape(name)}" autocomplete="username" autocapitalize="none" '
        'spellcheck="false" maxlength="64" required autofocus>'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" '
        'maxlength="1024" required>'
        "<button>Log in</button></form>"
    )
    return page("Log in", body)


def ask_code(error: str, user: str, token: str) -> str:
    """Return the page that asks for a user code."""
    body = (
        f"{paragraph(error, 'bad')}"
        '<form method="get" action="/device">'
        '<label for="user_code">Code shown by whook login</label>'
        '<input id="user_code" name="user_code" class="code" placeholder="XXXX-XXXX" autocomplete="off" '
        'autocapitalize="characters" spellcheck="false" maxlength="20" required autofocus>'
        "<button>Continue</button></form>"
    )
    return page("Connect a device", body, user=user, token=token)


def confirm(user: str, token: str, user_code: str, client: str, address: str, scopes: Iterable[str]) -> str:
    """Return the page that asks for approval."""
    facts = [("Device", client), ("Asked from", address or "unknown"), ("May", ", ".join(scopes))]
    shown = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    body = (
        "<p>Approve only if you began this login yourself and your terminal shows the same code.</p>"
        f'<p class="code">{escape(user_code)}</p><dl>{shown}</dl>'
        f'<form method="post" action="/device">{hidden("csrf", token)}{hidden("user_code", user_code)}'
        '<div class="row"><button name="decision" value="approve">Approve</button>'
        '<button class="plain" name="decision" value="deny">Deny</button></div></form>'
    )
    return page("Connect this device?", body, user=user, token=token)
