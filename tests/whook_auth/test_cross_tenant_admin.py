"""Attempts to operate the service without being an operator: each is refused and audited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.support.auth_rig import RELAY
from tests.support.tenants import World

Attempt = Callable[[World], Awaitable[httpx.Response]]


def operator(method: str, path: str, who: str = "ann") -> Attempt:
    """Ask the operators' part of the conductor's API."""
    return lambda w: w.ask(who, method, f"{w.rig.api_url}/v1/admin{path}")


async def operator_by_all_other_scopes(w: World) -> httpx.Response:
    token = await w.special("all", scopes=["connect", "events:read", "events:replay", "projects:write"])
    return await operator("GET", "/relays", token)(w)


async def operator_who_is_no_admin(w: World) -> httpx.Response:
    """A token of the scope admin counts only as long as its user is an admin."""
    return await operator("PUT", f"/relays/{RELAY}/drain", await w.special("root", scopes=["admin"]))(w)


ADMIN_CASES: dict[str, tuple[int, Attempt]] = {
    "an owner lists relays": (403, operator("GET", "/relays")),
    "an owner lists tunnels": (403, operator("GET", "/tunnels")),
    "an owner lists the tunnels of its own project": (403, operator("GET", "/tunnels?project=shop")),
    "an owner lists projects": (403, operator("GET", "/projects")),
    "an owner looks at the queue": (403, operator("GET", "/queue")),
    "an owner drains a relay": (403, operator("PUT", f"/relays/{RELAY}/drain")),
    "an owner drains a relay that is none": (403, operator("PUT", "/relays/none/drain")),
    "an owner puts a relay back": (403, operator("DELETE", f"/relays/{RELAY}/drain")),
    "an owner kicks": (403, operator("DELETE", "/tunnels/tun_01JZ0000000000000000000000")),
    "a stranger kicks": (403, operator("DELETE", "/tunnels/tun_01JZ0000000000000000000000", "eve")),
    "every scope but admin": (403, operator_by_all_other_scopes),
    "the scope of one who is no admin": (403, operator_who_is_no_admin),
    "an unknown token": (401, operator("GET", "/relays", "whk_" + "a" * 49)),
}


@pytest.mark.parametrize("name", ADMIN_CASES)
async def test_refused_and_audited(world: World, name: str) -> None:
    status, attempt = ADMIN_CASES[name]
    before = world.rig.recorded.count
    answer = await attempt(world)
    assert answer.status_code == status, answer.text
    assert not any(token in answer.text for token in world.tokens.values())
    await world.rig.recorded.wait(before + 1)
    entry = (await world.rig.refusals())[0]
    assert entry.address == "127.0.0.1"
    assert entry.action.startswith(("admin.", "relay.", "tunnel.", "token."))
    assert entry.detail


async def test_an_operator_may_and_what_it_changes_is_audited(world: World) -> None:
    for path in ("/relays", "/tunnels", "/projects", "/queue"):
        assert (await operator("GET", path, "admin")(world)).status_code == 200
    assert (await operator("PUT", f"/relays/{RELAY}/drain", "admin")(world)).status_code == 409
    assert (await operator("DELETE", f"/relays/{RELAY}/drain", "admin")(world)).status_code == 202
    done = [one for one in await world.rig.store.audit(limit=100) if one.action.startswith("relay.")]
    assert [(one.action, one.target, one.actor, one.outcome) for one in done] == [
        ("relay.undrain", RELAY, "admin", "ok")
    ]
