"""The admin endpoints of a daemon: /metrics, /healthz and /readyz, and what `verbosity_admin` has.

run_daemon serves them on an address of their own, until everything else has ended. They tell about the
process to whoever can reach them and change nothing but what is logged; they must never be reachable from the
public ingress.
"""

from __future__ import annotations

import json
from typing import Any

from whook.chassis import metrics, verbosity_admin
from whook.chassis.asgi import App, AsgiLimits
from whook.chassis.problem import CONTENT_TYPE, problem
from whook.chassis.readiness import Degraded, Finding, Readiness, is_ready

LIMITS = AsgiLimits(connections=64, per_address=None, body=1024, body_timeout=5.0, send_timeout=5.0)
"""A scraper and a few probes: more is a mistake that must not cost the daemon anything."""


def admin_app(readiness: Readiness) -> App:
    """Return the ASGI application.

    /healthz answers 200 as long as the event loop runs: failing it means restart. /readyz answers 200 or
    503 with what each check says: failing it means no traffic for now; ``"status": "degraded"`` comes with
    200. /metrics has Prometheus' text format.
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        changing = await verbosity_admin.answer(scope, receive)
        status, content_type, body = changing or _answer(scope["method"], scope["path"], readiness)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _answer(method: str, path: str, readiness: Readiness) -> tuple[int, str, bytes]:
    if path not in {"/metrics", "/healthz", "/readyz"}:
        return 404, CONTENT_TYPE, problem(404, "not-found")
    if method not in {"GET", "HEAD"}:
        return 405, CONTENT_TYPE, problem(405, "method-not-allowed")
    if path == "/metrics":
        return 200, metrics.CONTENT_TYPE, metrics.render()
    if path == "/healthz":
        return 200, "text/plain", b"ok\n"
    checks = readiness.evaluate()
    ready = is_ready(checks)
    degraded = any(isinstance(found, Degraded) for found in checks.values())
    body = {
        "ready": ready,
        "status": "unready" if not ready else "degraded" if degraded else "ready",
        "checks": {name: _shown(found) for name, found in checks.items()},
    }
    return 200 if ready else 503, "application/json", json.dumps(body).encode() + b"\n"


def _shown(found: Finding) -> str:
    return f"degraded: {found.reason}" if isinstance(found, Degraded) else found or "ok"
