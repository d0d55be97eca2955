"""An auth service that listens, with a real relay and a real conductor on the same bus, for one test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio
from pydantic import SecretStr

from tests.support.clocks import WallClock
from tests.support.conductor_stores import open_stored
from tests.support.deadlines import DEADLINE
from tests.support.twins import sqlite_auth_store, sqlite_projects
from whook.backplane.memory import MemoryJournal, open_memory_backplane
from whook.backplane.ports import AuditEntry, AuthStore, Bus
from whook.chassis.drain import Drain
from whook.chassis.readiness import Readiness
from whook.chassis.tunnel_token import Verifier
from whook_auth.audit import AuditTrail
from whook_auth.parts import make_parts
from whook_auth.passwords import Passwords
from whook_auth.server import AuthPorts, run_auth
from whook_auth.service import AuthService, open_auth
from whook_auth.settings import AuthSettings
from whook_conductor.service import ConductorPorts, run_conductor
from whook_conductor.settings import ConductorSettings
from whook_relay.service import RelayPorts, run_relay
from whook_relay.settings import RelaySettings

PASSWORD = "correct horse battery"
RELAY = "relay-1"
GENEROUS = (10_000.0, 10_000.0)
"""Attempts from one address: all of the tests come from the same."""
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Recorded:
    """Counts the refusals that were written, and lets a test wait for one."""

    def __init__(self, trail: AuditTrail) -> None:
        self.count = 0
        self._changed = trio.lowlevel.ParkingLot()
        self._write = trail.refused
        trail.refused = self._refused  # type: ignore[method-assign]

    async def _refused(self, action: str, **more: Any) -> None:
        await self._write(action, **more)
        self.count += 1
        self._changed.unpark_all()

    async def wait(self, count: int) -> None:
        """Wait until so many were written."""
        with trio.fail_after(DEADLINE):
            while self.count < count:
                await self._changed.park()


@dataclass
class AuthRig:
    """Everything that a test may want to reach."""

    auth: AuthService
    store: AuthStore
    bus: Bus
    clock: WallClock
    url: str
    api_url: str
    """Of the conductor."""
    tunnel_url: str
    """Of the relay."""
    admin: str
    """A token that may do everything."""
    client: httpx.AsyncClient
    recorded: Recorded
    deleted: trio.Event
    """Set once the conductor has deleted a project."""

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, **more: Any
    ) -> httpx.Response:
        """Send one request; a path is one of the auth API."""
        url = path if path.startswith("http") else self.url + path
        headers = {"Authorization": f"Bearer {self.admin if token is None else token}"} if token != "" else {}
        return await self.client.request(method, url, json=body, headers=headers | more.pop("headers", {}))

    async def do(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> Any:
        """Send one request that must succeed; gives its answer."""
        response = await self.ask(method, path, body, token=token)
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def user(self, name: str, *scopes: str, **more: Any) -> str:
        """Make an account; gives a token of it."""
        made = await self.do("POST", "/v1/users", {"name": name, "password": PASSWORD})
        wanted = scopes or ("connect", "projects:write", "events:read", "events:replay")
        token, _ = await self.auth.create_token(made["id"], "test", wanted, **more)
        return token

    async def form(self, path: str, **fields: str) -> httpx.Response:
        """Send a form without cookies."""
        return await self.client.post(self.url + path, data=fields)

    async def refusals(self) -> list[AuditEntry]:
        """Give the refusals in the audit trail, the newest first."""
        return [entry for entry in await self.store.audit(limit=500) if entry.outcome == "refused"]


@asynccontextmanager
async def open_auth_rig(
    folder: Path, *, attempts: tuple[float, float] = GENEROUS, device_interval: int = 0
) -> AsyncGenerator[AuthRig, None]:
    """Start auth, a conductor and a relay, and stop them in the end."""
    clock, drain, key = WallClock(), Drain(grace=1.0), SecretStr("k" * 32)
    async with AsyncExitStack() as stack:
        backplane = await stack.enter_async_context(open_memory_backplane())
        store = await stack.enter_async_context(sqlite_auth_store(folder))
        projects = await stack.enter_async_context(sqlite_projects(folder, backplane.bus))
        auth = await stack.enter_async_context(open_auth(store, backplane.bus, now=clock))
        recorded, deleted = Recorded(auth.trail), trio.Event()
        delete = projects.delete

        async def delete_and_tell(name: str, made_before: datetime) -> bool:
            done = await delete(name, made_before)
            deleted.set()
            return done

        projects.delete = delete_and_tell  # type: ignore[method-assign]
        stored = await stack.enter_async_context(open_stored(backplane.bus))
        client = httpx.AsyncClient(timeout=DEADLINE, trust_env=False)
        await stack.enter_async_context(client)
        make = partial(
            make_parts, passwords=Passwords(time_cost=1, memory_cost=8), attempts=attempts, now=clock
        )
        async with trio.open_nursery() as nursery:
            login: AuthPorts = await nursery.start(
                partial(
                    run_auth,
                    AuthSettings(listen="127.0.0.1:0", device_interval=device_interval),
                    auth=auth,
                    store=store,
                    bus=backplane.bus,
                    drain=drain,
                    make=make,
                )
            )
            relay: RelayPorts = await nursery.start(
                partial(
                    run_relay,
                    RelaySettings(relay_id=RELAY, listen="127.0.0.1:0", cluster_key=key),
                    directory=backplane.directory,
                    bus=backplane.bus,
                    verifier=Verifier(await auth.jwks()),
                    drain=drain,
                    readiness=Readiness(drain),
                )
            )
            ports: ConductorPorts = await nursery.start(
                partial(
                    run_conductor,
                    ConductorSettings(
                        listen="127.0.0.1:0", api="127.0.0.1:0", cluster_key=key, auth_url=login.public_url
                    ),
                    directory=backplane.directory,
                    bus=backplane.bus,
                    projects=projects,
                    auth=auth,
                    queue=stored.queue,
                    history=stored.history,
                    blobs=stored.blobs,
                    journal=MemoryJournal(),
                    drain=drain,
                    readiness=Readiness(drain),
                )
            )
            admin = await auth.bootstrap_token()
            assert admin is not None
            yield AuthRig(
                auth=auth,
                store=store,
                bus=backplane.bus,
                clock=clock,
                url=login.public_url,
                api_url=f"http://{ports.api_address}",
                tunnel_url=relay.tunnel_url,
                admin=admin,
                client=client,
                recorded=recorded,
                deleted=deleted,
            )
            await client.aclose()
            drain.begin("the test is over")
