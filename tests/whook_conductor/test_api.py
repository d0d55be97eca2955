"""The control API over HTTP: grants, rights, and problems for everything that goes wrong."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from tests.support.async_http import connect, request
from tests.support.conductor import Rig, open_conductor, relay_info

ADA = {"Authorization": "Bearer whk_ada"}
BOB = {"Authorization": "Bearer whk_bob"}


async def call(rig: Rig, method: str, path: str, **options: Any) -> httpx.Response:
    """Send one request to the API."""
    async with httpx.AsyncClient(base_url=f"http://{rig.ports.api_address}", trust_env=False) as client:
        return await client.request(method, path, **options)


async def ask(rig: Rig, project: str = "fresh", headers: dict[str, str] = ADA, **more: Any) -> httpx.Response:
    """Ask for a tunnel."""
    return await call(rig, "POST", "/v1/tunnels", json={"project": project, **more}, headers=headers)


def assert_problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"urn:whook:problem:{slug}"
    assert problem["status"] == status
    return problem


async def test_a_tunnel_is_granted_and_its_project_made() -> None:
    async with open_conductor() as rig:
        response = await ask(rig)
        assert response.status_code == 200
        grant = response.json()
        assert grant == {
            "websocket_url": "ws://rly.test/v1/tunnel",
            "token": "tunnel-token",
            "project_id": "prj_fresh",
            "public_url": f"http://fresh.localhost:{rig.ports.ingress_port}",
            "expires_at": "2030-01-01T00:00:00Z",
            "backlog": 0,
        }
        assert rig.auth.minted == [("ada", "fresh", "rly")]
        assert "fresh" in rig.projects.stored


async def test_without_or_with_an_unknown_token_it_is_401() -> None:
    async with open_conductor() as rig:
        for headers in ({}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer nonsense"}):
            response = await ask(rig, headers=headers)
            assert_problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
        assert "fresh" not in rig.projects.stored


async def test_the_project_of_another_is_403() -> None:
    async with open_conductor() as rig:
        assert (await ask(rig)).status_code == 200
        assert_problem(await ask(rig, headers=BOB), 403, "forbidden")


@pytest.mark.parametrize("name", ["", "UPPER", "a.b", "www", "-x", "a" * 64, "xn--a"])
async def test_a_name_that_no_project_may_have_is_422(name: str) -> None:
    async with open_conductor() as rig:
        problem = assert_problem(await ask(rig, name), 422, "invalid-project-name")
        assert problem["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"project": 1}', b'{"project": "a", "watch": "perhaps"}']
)
async def test_a_body_that_is_no_request_is_422(body: bytes) -> None:
    async with open_conductor() as rig:
        headers = {**ADA, "Content-Type": "application/json"}
        problem = assert_problem(
            await call(rig, "POST", "/v1/tunnels", content=body, headers=headers), 422, "invalid-request"
        )
        assert problem["errors"]


async def test_the_frameworks_own_errors_are_problems_too() -> None:
    async with open_conductor() as rig:
        assert_problem(await call(rig, "GET", "/nothing"), 404, "not-found")
        assert_problem(await call(rig, "GET", "/v1/tunnels"), 405, "method-not-allowed")
        assert_problem(await call(rig, "POST", "/v1/tunnels", content=b"x" * 100_000), 413, "body-too-large")


async def test_a_defect_is_a_problem_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_conductor() as rig:

        async def broken(_: str) -> None:
            await trio.lowlevel.checkpoint()
            raise RuntimeError("a secret")

        monkeypatch.setattr(rig.auth, "authenticate", broken)
        response = await ask(rig)
        assert_problem(response, 500, "internal-error")
        assert "secret" not in response.text


async def test_no_relay_with_room_is_503_with_retry_after() -> None:
    async with open_conductor() as rig:
        await rig.backplane.directory.announce(relay_info("rly", rig.far.port, load=100, capacity=100), 1e6)
        await trio.testing.wait_all_tasks_blocked(0.01)
        response = await ask(rig)
        assert_problem(response, 503, "no-relay")
        assert int(response.headers["retry-after"]) >= 1
        assert "fresh" not in rig.projects.stored


async def test_what_is_not_reachable_is_503() -> None:
    async with open_conductor() as rig:
        rig.auth.broken = True
        assert_problem(await ask(rig), 503, "unavailable")
        rig.auth.broken = False
        rig.projects.broken = True
        assert_problem(await ask(rig), 503, "unavailable")


async def test_a_watcher_goes_to_the_holders_relay_and_never_makes_a_project() -> None:
    async with open_conductor() as rig:
        rig.auth.owners["shop"] = "ada"
        await rig.backplane.directory.announce(relay_info("empty", 1), 1e6)
        await trio.testing.wait_all_tasks_blocked(0.01)
        for _ in range(5):
            assert (await ask(rig, "shop", watch=True)).json()["websocket_url"] == "ws://rly.test/v1/tunnel"
        assert_problem(await ask(rig, "fresh", watch=True), 403, "forbidden")
        rig.auth.owners["idle"] = "ada"
        await rig.projects.create("idle")
        response = await ask(rig, "idle", watch=True)
        assert_problem(response, 503, "no-tunnel")
        assert "retry-after" in response.headers


async def test_projects_are_listed_to_those_who_may_connect() -> None:
    async with open_conductor() as rig:
        rig.auth.owners["shop"] = "ada"
        await ask(rig, "fresh")
        await ask(rig, "bobs", headers=BOB)
        listed = (await call(rig, "GET", "/v1/projects", headers=ADA)).json()["projects"]
        assert [project["name"] for project in listed] == ["fresh", "shop"]
        assert listed[0]["tunnel"] is None
        assert listed[1]["tunnel"] == {"id": "tun_shop_rly", "holder": "ada@test"}
        one = await call(rig, "GET", "/v1/projects/shop", headers=ADA)
        detail = one.json()
        assert {key: detail[key] for key in listed[1]} == listed[1]
        assert set(detail) - set(listed[1]) == {"policy", "backlog"}
        for name in ("bobs", "ghost"):
            response = await call(rig, "GET", f"/v1/projects/{name}", headers=ADA)
            assert_problem(response, 404, "unknown-project")
        assert_problem(await call(rig, "GET", "/v1/projects"), 401, "unauthorized")


async def test_the_document_describes_what_there_is() -> None:
    async with open_conductor() as rig:
        document = (await call(rig, "GET", "/openapi.json")).json()
        events = "/v1/projects/{name}/events"
        assert set(document["paths"]) == {
            events,
            f"{events}/follow",
            f"{events}/{{event}}",
            f"{events}/{{event}}/raw",
            f"{events}/{{event}}/body",
            "/v1/events/{event}",
            "/v1/projects/{name}/replays",
            "/v1/projects/{name}/backlog",
            "/v1/server",
            "/v1/tunnels",
            "/v1/projects",
            "/v1/projects/{name}",
            "/v1/admin/relays",
            "/v1/admin/relays/{relay}/drain",
            "/v1/admin/tunnels",
            "/v1/admin/tunnels/{tunnel}",
            "/v1/admin/projects",
            "/v1/admin/queue",
        }
        refusals = document["paths"]["/v1/tunnels"]["post"]["responses"]
        assert "application/problem+json" in refusals["403"]["content"]


async def test_a_draining_conductor_grants_nothing() -> None:
    async with open_conductor() as rig, connect(rig.ports.api_port) as client:
        body = b'{"project": "fresh"}'
        lines = (
            "Authorization: Bearer whk_ada",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        await client.send(request("POST", "/v1/tunnels", *lines))
        await trio.testing.wait_all_tasks_blocked(0.01)
        rig.drain.begin("test")
        await client.send(body)
        response = await client.read_response()
        assert (response.status, json.loads(response.body)["type"]) == (503, "urn:whook:problem:draining")
