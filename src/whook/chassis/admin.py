"""The admin endpoints of a daemon: /metrics, /healthz, /readyz, /debug/tasks, and what `verbosity_admin` has.

run_daemon serves them on an address of their own, until everything else has ended. They tell about the
process to whoever can reach them and change nothing but what is logged; they must never be reachable from the
public ingress.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from whook.chassis import metrics, verbosity_admin
from whook.chassis.asgi import App, AsgiLimits
from whook.chassis.problem import CONTENT_TYPE, problem
from whook.chassis.readiness import Degraded, Finding, Readiness, is_ready
from whook.chassis.tasks import ALIKE, MAX_SHOWN, SHOWN, task_tree

LIMITS = AsgiLimits(connections=64, per_address=None, body=1024, body_timeout=5.0, send_timeout=5.0)
"""A scraper and a few probes: more is a mistake that must not cost the daemon anything."""


_READING = frozenset({"GET", "HEAD"})


def admin_app(readiness: Readiness) -> App:
    """Return the ASGI application.

    /healthz answers 200 as long as the event loop runs: failing it means restart. /readyz answers 200 or
    503 with what each check says: failing it means no traffic for now; ``"status": "degraded"`` comes with
    200. /metrics has Prometheus' text format. /debug/tasks shows the tree of tasks, as text or, with
    ``format=json``, as JSON; ``limit`` bounds the tasks that are shown, ``alike`` those of a kind.
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["path"] == "/debug/tasks" and scope["method"] in _READING:
            answer: verbosity_admin.Answer | None = await _tasks(scope["query_string"])
        else:
            answer = await verbosity_admin.answer(scope, receive)
        status, content_type, body = answer or _answer(scope["method"], scope["path"], readiness)
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _answer(method: str, path: str, readiness: Readiness) -> tuple[int, str, bytes]:
    if path not in {"/metrics", "/healthz", "/readyz", "/debug/tasks"}:
        return 404, CONTENT_TYPE, problem(404, "not-found")
    if method not in _READING:
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


async def _tasks(query_string: bytes) -> tuple[int, str, bytes]:
    query = parse_qs(query_string.decode("ascii", "replace"))
    form = query.get("format", ["text"])[-1]
    try:
        limit = int(query.get("limit", [str(SHOWN)])[-1])
        alike = int(query.get("alike", [str(ALIKE)])[-1])
    except ValueError:
        limit = alike = 0
    if not (1 <= limit <= MAX_SHOWN and 1 <= alike <= MAX_SHOWN and form in {"text", "json"}):
        detail = f"Give limit and alike from 1 to {MAX_SHOWN}, and format text or json."
        return 400, CONTENT_TYPE, problem(400, "bad-request", detail=detail)
    tree = await task_tree(limit=limit, alike=alike)
    if form == "json":
        return 200, "application/json", json.dumps(tree.as_dict()).encode() + b"\n"
    return 200, "text/plain; charset=utf-8", tree.text().encode()


def _shown(found: Finding) -> str:
    return f"degraded: {found.reason}" if isinstance(found, Degraded) else found or "ok"
