"""The events API over a real socket, with the real stores in SQLite behind it, for one test.

Ann owns the project shop, bob develops it, vic views it, eve has nothing to do with it but a project of her
own. What recorder and dispatcher would do is the test's to do.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.support.deadlines import DEADLINE
from tests.support.twins import sqlite_auth_store, sqlite_history, sqlite_projects
from whook.backplane.memory import open_memory_backplane
from whook.backplane.ports import (
    Account,
    AuditEntry,
    AuthStore,
    Blobs,
    History,
    Project,
    ProjectPolicy,
    Projects,
    Queue,
    Queued,
)
from whook.backplane.sql import open_sqlite_queue, sqlite_url
from whook.chassis.api import new_api
from whook.chassis.asgi import AsgiLimits, serve_asgi
from whook.chassis.drain import Drain
from whook.chassis.ids import new_id
from whook.chassis.listen import bound_address, open_listeners
from whook.chassis.sealing import Sealer
from whook_auth.service import AuthService, open_auth
from whook_conductor.events_service import make_events_service
from whook_conductor.settings import ConductorSettings

ALL = ("connect", "projects:write", "events:read", "events:replay")


@dataclass
class EventsRig:
    """Everything that a test may want to reach."""

    url: str
    auth: AuthService
    store: AuthStore
    projects: Projects
    history: History
    """That of the service: recording wakes those who follow."""
    quiet_history: History
    """The same store as another process has it."""
    blobs: Blobs
    queue: Queue
    drain: Drain
    client: httpx.AsyncClient
    tokens: dict[str, str]
    shop: Project

    async def ask(self, method: str, path: str, *, who: str = "ann", **more: Any) -> httpx.Response:
        """Send one request; `who` is a name or a token."""
        headers = {"Authorization": f"Bearer {self.tokens.get(who, who)}"} if who else {}
        return await self.client.request(method, self.url + path, headers=headers, **more)

    async def get(self, path: str, *, who: str = "ann", **params: Any) -> Any:
        """Send one GET that must succeed; gives its JSON."""
        response = await self.ask("GET", path, who=who, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    async def token(self, name: str, *scopes: str, **more: Any) -> str:
        """Make another token for somebody."""
        account = await self.store.account(name=name)
        assert account is not None
        return (await self.auth.create_token(account.id, "test", scopes or ALL, **more))[0]

    async def refusals(self) -> list[AuditEntry]:
        """Give the refusals in the audit trail, the newest first."""
        return [entry for entry in await self.store.audit(limit=500) if entry.outcome == "refused"]

    async def queued(self, project: Project | None = None) -> list[Queued]:
        """Read the backlog of a project as its dispatcher would."""
        await self.queue.attend("test", 60)
        owned = await self.queue.acquire((project or self.shop).id, "test")
        assert owned is not None
        batch = await self.queue.read(owned, limit=2_000, max_bytes=1 << 30, in_order=True)
        return batch.entries

    async def limit(self, **policy: Any) -> None:
        """Give the project shop another policy."""
        await self.projects.set_policy(self.shop.id, ProjectPolicy(**policy))


@asynccontextmanager
async def open_events_rig(
    folder: Path, *, queue: bool = True, grace: float = 5.0
) -> AsyncGenerator[EventsRig, None]:
    """Start it, and stop it in the end."""
    drain = Drain(grace)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        backplane = await enter(open_memory_backplane())
        store = await enter(sqlite_auth_store(folder))
        projects = await enter(sqlite_projects(folder, backplane.bus))
        history, blobs = await enter(sqlite_history(folder, Sealer()))
        waiting = await enter(open_sqlite_queue(sqlite_url(folder / "queue.db"), backplane.bus))
        auth = await enter(open_auth(store, backplane.bus))
        client = await enter(httpx.AsyncClient(timeout=2 * DEADLINE, trust_env=False))
        events = make_events_service(
            ConductorSettings(),
            auth=auth,
            projects=projects,
            history=history,
            blobs=blobs,
            queue=waiting if queue else None,
            drain=drain,
        )
        tokens = {"admin": await auth.bootstrap_token() or ""}
        shop = await _people(store, auth, projects, tokens)
        app = new_api("events")
        app.state.trusted_proxies = ()
        app.include_router(events.router)
        listeners = await open_listeners("127.0.0.1:0", what="the API", option="")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(events.run)
            limits = AsgiLimits(body=65_536)
            await nursery.start(partial(serve_asgi, app, listeners, name="api", drain=drain, limits=limits))
            yield EventsRig(
                url=f"http://{bound_address(listeners)}/v1",
                auth=auth,
                store=store,
                projects=projects,
                history=events.history,
                quiet_history=history,
                blobs=blobs,
                queue=waiting,
                drain=drain,
                client=client,
                tokens=tokens,
                shop=shop,
            )
            drain.begin("the test is over")
            nursery.cancel_scope.cancel()


async def _people(store: AuthStore, auth: AuthService, projects: Projects, tokens: dict[str, str]) -> Project:
    now = datetime.now(UTC)
    ids = {}
    for name in ("ann", "bob", "vic", "eve"):
        account = Account(id=new_id("usr"), name=name, created_at=now)
        entry = auth.trail.entry("test")
        assert await store.add_account(account, entry)
        ids[name] = account.id
        tokens[name] = (await auth.create_token(account.id, "test", ALL))[0]
    for project, owner in (("shop", "ann"), ("den", "eve")):
        project_id = new_id("prj")
        await store.claim_project(project, ids[owner], now, project_id=project_id)
        await projects.create(project, project_id)
    await store.set_member("shop", ids["bob"], "developer", now, auth.trail.entry("test"))
    await store.set_member("shop", ids["vic"], "viewer", now, auth.trail.entry("test"))
    shop = await projects.get("shop")
    assert shop is not None
    return shop
