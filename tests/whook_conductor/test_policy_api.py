"""Policies over HTTP: shown with what waits, changed by owners, refused with the field and its mend."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import trio

from tests.support.async_http import post, request
from tests.support.conductor import Rig, open_conductor
from whook.backplane.ports import ProjectPolicy, Unavailable

ADA = {"Authorization": "Bearer whk_ada"}
BOB = {"Authorization": "Bearer whk_bob"}


async def call(
    rig: Rig, method: str, path: str, headers: dict[str, str] = ADA, **more: Any
) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://{rig.ports.api_address}", trust_env=False) as client:
        return await client.request(method, path, headers=headers, **more)


async def own(rig: Rig, name: str = "idle") -> None:
    await rig.projects.create(name)
    rig.auth.owners[name] = "ada"


async def test_a_project_is_shown_with_its_policy_and_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_conductor() as rig:
        await own(rig)
        assert (await rig.ask(post(b"x", host="idle.localhost"), b"POST")).status == 202
        shown = (await call(rig, "GET", "/v1/projects/idle")).json()
        assert shown["policy"]["buffer_methods"] == ["POST"]
        assert set(shown["policy"]) == set(ProjectPolicy.__dataclass_fields__)
        assert shown["backlog"]["count"] == 1
        assert shown["backlog"]["bytes"] > 0
        assert datetime.fromisoformat(shown["backlog"]["oldest_at"]) <= datetime.now(UTC)
        grant = (await call(rig, "POST", "/v1/tunnels", json={"project": "idle"})).json()
        assert grant["backlog"] == 1

        async def broken(*_: object) -> None:
            await trio.lowlevel.checkpoint()
            raise Unavailable("the queue is gone")

        monkeypatch.setattr(rig.queue, "backlog", broken)
        assert (await call(rig, "GET", "/v1/projects/idle")).json()["backlog"] is None
        assert (await call(rig, "POST", "/v1/tunnels", json={"project": "idle"})).json()["backlog"] == 0


async def test_a_change_counts_at_once_and_null_takes_it_back() -> None:
    async with open_conductor() as rig:
        await own(rig)
        change = {"buffer_methods": ["PUT"], "buffered_status": 200, "buffered_body": "ok", "window": 3}
        changed = await call(rig, "PATCH", "/v1/projects/idle", json=change)
        assert changed.status_code == 200
        assert {key: changed.json()["policy"][key] for key in change} == change
        put = request("PUT", "/", "Content-Length: 0", host="idle.localhost")
        response = await rig.ask(put, b"PUT")
        assert (response.status, response.body) == (200, b"ok")
        back = dict.fromkeys(change)
        changed = await call(rig, "PATCH", "/v1/projects/idle", json=back)
        assert rig.projects.stored["idle"].policy == ProjectPolicy()
        assert (await rig.ask(put, b"PUT")).status == 503


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"window": 0}, "window"),
        ({"order": "loose"}, "order"),
        ({"buffered_status": 404}, "buffered_status"),
        ({"buffered_content_type": "a\r\nX: y"}, "media type"),
        ({"buffer_methods": []}, "buffer_methods"),
        ({"buffer_methods": ["CONNECT"]}, "such as POST"),
        ({"dedup_header": "not a header"}, "header field"),
        ({"wndow": 1}, "wndow"),
        ({"retry_base": 10, "retry_cap": 5}, "retry_cap must not be less"),
        ({"buffered_status": 204, "buffered_body": "x"}, "has no body"),
    ],
)
async def test_a_bad_change_is_refused_by_its_name(change: dict[str, Any], named: str) -> None:
    async with open_conductor() as rig:
        await own(rig)
        refused = await call(rig, "PATCH", "/v1/projects/idle", json=change)
        assert refused.status_code == 422
        assert named.lower() in refused.json()["detail"].lower()
        assert rig.projects.stored["idle"].policy == ProjectPolicy()


async def test_only_who_owns_it_changes_it() -> None:
    async with open_conductor() as rig:
        await own(rig)
        for headers, path, status in ((BOB, "idle", 404), (ADA, "ghost", 404), ({}, "idle", 401)):
            refused = await call(rig, "PATCH", f"/v1/projects/{path}", headers, json={"window": 2})
            assert refused.status_code == status, refused.text
