"""The Auth port over HTTP against the real auth service: what it asks, remembers and survives."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
from fastapi import FastAPI, Request, Response

from tests.support.deadlines import DEADLINE
from tests.support.twins import sqlite_auth_store
from whook.backplane.auth_http import PublishedKeys, open_connection, open_http_auth
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import AuthDenied, Project, Unavailable
from whook.backplane.ports.auth import CALLER
from whook.chassis.asgi import serve_asgi
from whook.chassis.drain import Drain
from whook.chassis.listen import bound_address, open_listeners
from whook.chassis.tunnel_token import SigningKey, TunnelTokenInvalid, Verifier, jwks
from whook_auth.internal_api import build_internal_api
from whook_auth.service import AuthService, open_auth

KEY = "the service key"
SHOP = Project(id="prj_1", name="shop", created_at=datetime(2026, 1, 1, tzinfo=UTC))


@dataclass
class Server:
    """Auth behind its internal API, and what was asked of it."""

    auth: AuthService
    bus: MemoryBus
    url: str = ""
    asked: list[str] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    down: bool = False


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncGenerator[str, None]:
    listeners = await open_listeners("127.0.0.1:0", what="test", option="test")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_asgi, name="auth", drain=Drain()), app, listeners)
        yield f"http://{bound_address(listeners)}"
        nursery.cancel_scope.cancel()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server, None]:
    bus = MemoryBus()
    async with sqlite_auth_store(tmp_path) as store, open_auth(store, bus) as auth:
        app = FastAPI()
        app.include_router(build_internal_api(auth, ["an old key", KEY]))
        found = Server(auth, bus)

        @app.middleware("http")
        async def note(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
            found.asked.append(request.url.path.rpartition("/")[2])
            found.callers.append(request.headers.get("whook-caller", ""))
            return Response(status_code=502) if found.down else await call_next(request)

        async with serving(app) as found.url:
            yield found


async def token_of(server: Server, *scopes: str) -> str:
    scopes = scopes or ("connect", "projects:write")
    token, _ = await server.auth.create_token(server.auth.admin.id, "t", scopes)
    return token


async def test_the_whole_port(server: Server) -> None:
    token = await token_of(server)
    async with open_http_auth(server.url, KEY, server.bus) as client:
        principal = await client.authenticate(token)
        assert principal == await server.auth.authenticate(token)
        shop = replace(SHOP, id=await client.authorize_tunnel(principal, "shop", create=True))
        assert await server.auth.authorize_tunnel(principal, "shop", create=False) == shop.id
        assert await client.projects_of(principal) == await server.auth.projects_of(principal)
        minted = await client.mint_tunnel_token(principal, shop, "relay-1")
        claims = Verifier(await client.jwks()).verify(minted.token, relay_id="relay-1")
        assert (claims.project_id, claims.token_id) == (shop.id, principal.token_id)
        assert minted.expires_at == datetime.fromtimestamp(claims.expires_at, UTC)


async def test_refusals_arrive_as_they_were_given(server: Server) -> None:
    token = await token_of(server, "events:read")
    async with open_http_auth(server.url, KEY, server.bus) as client:
        with pytest.raises(AuthDenied) as denied:
            await client.authenticate("whk_nonsense")
        assert denied.value.reason == "unknown"
        principal = await client.authenticate(token)
        with pytest.raises(AuthDenied) as denied:
            await client.authorize_tunnel(principal, "shop", create=True)
        assert denied.value.reason == "forbidden"
        able = await client.authenticate(await token_of(server))
        with pytest.raises(ValueError, match="project name"):
            await client.authorize_tunnel(able, "-bad-", create=True)


async def test_who_may_operate_is_asked_for_every_time_and_audited(server: Server) -> None:
    await server.auth.bootstrap_token()  # makes the first user an admin
    async with open_http_auth(server.url, KEY, server.bus) as client:
        admin = await client.authenticate(await token_of(server, "admin"))
        await client.authorize_admin(admin, "admin.relays")
        await client.authorize_admin(admin, "relay.drain", "relay-1", change=True)
        weak = await client.authenticate(await token_of(server))
        with pytest.raises(AuthDenied) as denied:
            await client.authorize_admin(weak, "relay.drain", "relay-1", change=True)
        assert denied.value.reason == "forbidden"
        assert server.asked.count("authorize-admin") == 3


async def test_rights_in_a_project_are_asked_for_every_time(server: Server) -> None:
    token = await token_of(server, "connect", "projects:write", "events:read")
    async with open_http_auth(server.url, KEY, server.bus) as client:
        principal = await client.authenticate(token)
        await client.authorize_tunnel(principal, "shop", create=True)
        await client.authorize_project(principal, "shop", "events:read")
        await client.authorize_project(principal, None, "events:read")
        for project, scope, reason in (
            ("shop", "events:replay", "forbidden"),
            (None, "events:replay", "forbidden"),
            ("another", "events:read", "hidden"),
        ):
            with pytest.raises(AuthDenied) as denied:
                await client.authorize_project(principal, project, scope)  # type: ignore[arg-type]
            assert denied.value.reason == reason
        assert server.asked.count("authorize-project") == 5
        server.down = True
        with pytest.raises(Unavailable):
            await client.authorize_project(principal, "shop", "events:read")


async def test_without_the_service_key_nothing_is_told(server: Server) -> None:
    token = await token_of(server)
    for key in ("", "wrong", KEY + "x"):
        async with open_http_auth(server.url, key, server.bus) as client:
            with pytest.raises(Unavailable, match="service key"):
                await client.authenticate(token)
            assert (await client.jwks())["keys"]
    async with open_http_auth(server.url, "an old key", server.bus) as client:
        await client.authenticate(token)
    keys: list[str]
    for keys in ([], [""], [KEY, ""]):
        with pytest.raises(ValueError, match="service key"):
            build_internal_api(server.auth, keys)


async def test_what_is_known_is_not_asked_again_and_survives_an_outage(server: Server) -> None:
    token = await token_of(server)
    other = await token_of(server)
    async with open_http_auth(server.url, KEY, server.bus) as client:
        for _ in range(3):
            principal = await client.authenticate(token)
            shop = replace(SHOP, id=await client.authorize_tunnel(principal, "shop", create=True))
        assert server.asked == ["authenticate", "authorize-tunnel"]
        server.down = True
        assert await client.authenticate(token) == principal
        assert await client.authorize_tunnel(principal, "shop", create=False) == shop.id
        with pytest.raises(Unavailable, match="502"):
            await client.mint_tunnel_token(principal, shop, "relay-1")
        with pytest.raises(Unavailable):
            await client.authenticate(other)
        server.down = False
        await client.mint_tunnel_token(principal, shop, "relay-1")


async def test_what_is_revoked_is_forgotten(server: Server) -> None:
    token = await token_of(server)
    async with open_http_auth(server.url, KEY, server.bus) as client:
        principal = await client.authenticate(token)
        await server.auth.revoke_token(principal.token_id)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(DEADLINE), pytest.raises(AuthDenied) as denied:
            await client.authenticate(token)
        assert denied.value.reason == "revoked"


async def test_the_callers_address_is_handed_on(server: Server) -> None:
    token = await token_of(server)
    async with open_http_auth(server.url, KEY, server.bus) as client:
        reset = CALLER.set("192.0.2.7")
        await client.authenticate(token)
        CALLER.reset(reset)
    assert server.callers == ["192.0.2.7"]


async def test_nobody_there_or_nobody_answering_is_unavailable() -> None:
    bus = MemoryBus()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with open_http_auth(f"http://127.0.0.1:{port}", KEY, bus, deadline=0.05) as client:
        with pytest.raises(Unavailable, match="does not answer"):
            await client.authenticate("whk_x")
        await listeners[0].aclose()
        with pytest.raises(Unavailable):
            await client.authenticate("whk_x")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>", b"x" * 2_000_000])
async def test_nonsense_is_unavailable(body: bytes) -> None:
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def answer() -> Response:
        return Response(body, 200)

    async with serving(app) as url, open_http_auth(url, KEY, MemoryBus()) as client:
        with pytest.raises(Unavailable):
            await client.authenticate("whk_x")


@pytest.mark.parametrize("url", ["", "auth.example.com", "ftp://x", "http://me:secret@x", "http://x?y"])
async def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="give the address") as refused:
        async with open_connection(url):
            pass
    assert "secret" not in str(refused.value)


@dataclass
class Publisher:
    """Publishes keys, and counts who asks."""

    url: str = ""
    keys: list[SigningKey] = field(default_factory=list)
    asked: int = 0
    down: bool = False


@pytest.fixture
async def publisher() -> AsyncGenerator[Publisher, None]:
    found = Publisher(keys=[SigningKey.generate()])
    app = FastAPI()

    @app.get("/.well-known/jwks.json")
    async def publish() -> Response:
        found.asked += 1
        return Response(status_code=503) if found.down else Response(json.dumps(jwks(found.keys)))

    async with serving(app) as found.url:
        yield found


async def test_keys_are_followed_and_kept_while_auth_is_away(publisher: Publisher) -> None:
    async with open_connection(publisher.url) as connection, trio.open_nursery() as nursery:
        keys = PublishedKeys(connection)
        assert keys.check() is not None
        await nursery.start(keys.run)
        assert keys.check() is None
        known = {key.kid for key in publisher.keys}
        assert keys.verifier.key_ids == known
        publisher.keys.append(SigningKey.generate())
        for _ in range(20):
            await keys.refresh()  # too soon after the first one
        assert (publisher.asked, keys.verifier.key_ids) == (1, known)
        keys._fetched -= 100
        publisher.down = True
        await keys.refresh()
        assert (publisher.asked, keys.verifier.key_ids) == (2, known)
        publisher.down = False
        keys._fetched -= 100
        async with trio.open_nursery() as many:
            for _ in range(20):
                many.start_soon(keys.refresh)
        assert publisher.asked == 3
        assert keys.verifier.key_ids == {key.kid for key in publisher.keys}
        publisher.keys.clear()
        keys._fetched -= 100
        await keys.refresh()
        assert len(keys.verifier.key_ids) == 2
        with pytest.raises(TunnelTokenInvalid):
            keys.verifier.verify("x.y.z", relay_id="relay-1")
        nursery.cancel_scope.cancel()


async def test_a_relay_may_start_before_auth() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    await listeners[0].aclose()
    async with open_connection(url) as connection, trio.open_nursery() as nursery:
        keys = PublishedKeys(connection)
        await nursery.start(keys.run)
        assert keys.check() == "no keys from the auth service"
        nursery.cancel_scope.cancel()


async def test_what_is_asked_at_the_same_time_goes_in_batches_and_each_gets_its_own_answer(
    server: Server,
) -> None:
    token = await token_of(server)
    async with open_http_auth(server.url, KEY, server.bus) as client:
        principal = await client.authenticate(token)
        server.asked.clear()
        server.callers.clear()
        found: dict[str, object] = {}

        async def open_one(name: str) -> None:
            CALLER.set(f"192.0.2.{len(found)}")
            try:
                project_id = await client.authorize_tunnel(principal, name, create=True)
                project = Project(id=project_id, name=name, created_at=SHOP.created_at)
                minted = await client.mint_tunnel_token(principal, project, "relay-1")
                found[name] = verifier.verify(minted.token, relay_id="relay-1").project
            except ValueError:
                found[name] = "no name"

        verifier = Verifier(await client.jwks())
        names = [f"shop-{n}" for n in range(200)] + ["www", "-bad-"]
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(open_one, name)
        assert found == {n: n for n in names[:-2]} | {"www": "no name", "-bad-": "no name"}
        assert server.asked.count("batch") > 1
        assert len(server.asked) < len(names) / 2


async def test_a_batch_needs_the_service_key_and_takes_only_what_auth_answers(server: Server) -> None:
    items = [{"path": "/internal/v1/nothing", "caller": "", "body": {}}]
    items += [{"path": "/internal/v1/authenticate", "caller": "", "body": {"token": 7}}]
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        assert (await client.post("/internal/v1/batch", json=items)).status_code == 401
        headers = {"whook-service-key": KEY}
        answer = await client.post("/internal/v1/batch", json=items, headers=headers)
        assert [one["status"] for one in answer.json()] == [404, 400]
        assert (await client.post("/internal/v1/batch", json={}, headers=headers)).status_code == 400


async def test_a_batch_to_a_service_that_cannot_batch_is_an_outage(server: Server) -> None:
    """An older one, that is: it is upgraded before the conductors."""
    token = await token_of(server)
    async with open_http_auth(server.url, KEY, server.bus) as client:
        principal = await client.authenticate(token)
        server.down = True
        failures: list[Unavailable] = []

        async def ask(number: int) -> None:
            try:
                await client.authorize_tunnel(principal, f"shop-{number}", create=True)
            except Unavailable as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, number)
        assert len(failures) == 20
