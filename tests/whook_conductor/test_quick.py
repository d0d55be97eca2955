"""The quick way for `POST /v1/tunnels`: the same answers as the framework's, and a bound on how many come."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from tests.support.conductor import Rig, open_conductor
from whook.backplane.ports import CALLER, Principal

ADA = "Bearer whk_ada"


async def post(rig: Rig, body: bytes, **headers: str) -> httpx.Response:
    """Send a request for a tunnel."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(base_url=f"http://{rig.ports.api_address}", trust_env=False) as client:
        return await client.post("/v1/tunnels", content=body, headers=named)


BODIES = (
    b'{"project":"fresh"}',
    b'{"project":"fresh","instance":"cli_1","watch":false,"later":[1]}',
    b'{"project":"other","instance":"' + b"x" * 128 + b'"}',
    b'{"project":"other","instance":"' + b"x" * 129 + b'"}',
    b'{"project":"www"}',
    b'{"project":"shop","watch":true}',
    b'{"project":7}',
    b'{"instance":"cli_1"}',
    b"\xff",
    b"",
)


async def answers(authorization: str, content_type: str) -> list[tuple[Any, ...]]:
    """What a conductor makes of all bodies."""
    found: list[tuple[Any, ...]] = []
    async with open_conductor() as rig:
        for body in BODIES:
            response = await post(rig, body, content_type=content_type, authorization=authorization)
            said = json.loads(response.text.replace(str(rig.ports.ingress_port), "PORT"))
            kept = {"content-type", "www-authenticate", "retry-after"} & response.headers.keys()
            found.append((response.status_code, said, kept, response.headers["content-type"]))
    return found


@pytest.mark.parametrize("authorization", [ADA, "bearer whk_ada", "Bearer nonsense", "Basic abc", ""])
async def test_both_ways_give_the_same_answers(authorization: str) -> None:
    """A content type with a parameter is not what our client sends, so it goes through the framework."""
    quick = await answers(authorization, "application/json")
    assert quick == await answers(authorization, "application/json; charset=utf-8")


async def test_many_at_once_are_told_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_conductor(max_tunnel_requests=1) as rig:
        asked, go_on = trio.Event(), trio.Event()
        authorize = rig.auth.authorize_tunnel

        async def slow(principal: Principal, project: str, *, create: bool) -> None:
            asked.set()
            await go_on.wait()
            await authorize(principal, project, create=create)

        monkeypatch.setattr(rig.auth, "authorize_tunnel", slow)
        first: list[httpx.Response] = []

        async def ask() -> None:
            first.append(
                await post(rig, b'{"project":"fresh"}', authorization=ADA, content_type="application/json")
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await asked.wait()
            for kind in ("application/json", "application/json; charset=utf-8"):  # either way
                stranger = await post(
                    rig, b'{"project":"b"}', authorization="Bearer whk_nobody", content_type=kind
                )
                assert stranger.status_code == 401  # takes no place, and no turn
                response = await post(rig, b'{"project":"b"}', authorization=ADA, content_type=kind)
                assert response.status_code == 503
                assert response.json()["type"] == "urn:whook:problem:busy"
                assert int(response.headers["retry-after"]) >= 1
            go_on.set()
        assert first[0].status_code == 200
        assert (
            await post(rig, b'{"project":"b"}', authorization=ADA, content_type="application/json")
        ).status_code == 200


async def test_auth_learns_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_conductor() as rig:
        authenticate, callers = rig.auth.authenticate, list[str]()

        async def note(token: str) -> Principal:
            callers.append(CALLER.get())
            return await authenticate(token)

        monkeypatch.setattr(rig.auth, "authenticate", note)
        await post(rig, b'{"project":"fresh"}', authorization=ADA, content_type="application/json")
        assert callers == ["127.0.0.1"]
