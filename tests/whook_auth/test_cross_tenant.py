"""Attempts to do what one may not, over real sockets: each is refused, and each is in the audit trail."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from tests.support.auth_rig import PASSWORD, RELAY
from tests.support.tenants import World, csrf, pad, unpad
from whook.chassis.tunnel_token import SigningKey

Attempt = Callable[["World"], Awaitable[httpx.Response]]
FORGED = 403


async def expired(w: World) -> httpx.Response:
    token = await w.special("short", lifetime=timedelta(minutes=1))
    w.rig.clock.ahead += timedelta(minutes=2)
    return await w.tunnel(token)


async def revoked(w: World) -> httpx.Response:
    token = await w.special("old")
    await w.rig.do("DELETE", "/v1/tokens/current", token=token)
    return await w.tunnel(token)


async def disabled(w: World) -> httpx.Response:
    await w.rig.do("DELETE", "/v1/users/bob")
    return await w.tunnel("bob")


async def removed(w: World) -> httpx.Response:
    await w.rig.do("DELETE", "/v1/projects/shop/members/bob", token=w.tokens["ann"])
    return await w.tunnel("bob")


async def deleted_and_claimed(w: World) -> httpx.Response:
    await w.rig.do("DELETE", "/v1/projects/shop", token=w.tokens["ann"])
    await w.rig.do("POST", "/v1/projects", {"name": "shop"}, token=w.tokens["eve"])
    return await w.tunnel("bob")


async def restricted(w: World) -> httpx.Response:
    return await w.tunnel(await w.special("only", projects=["other"]))


async def restricted_members(w: World) -> httpx.Response:
    return await w.ask(await w.special("only", projects=["other"]), "GET", "/v1/projects/shop/members")


async def restricted_makes_wider(w: World) -> httpx.Response:
    token = await w.special("only", projects=["other"])
    return await w.ask(
        token, "POST", "/v1/tokens", {"name": "x", "scopes": ["connect"], "projects": ["shop"]}
    )


async def restricted_claims(w: World) -> httpx.Response:
    token = await w.special("only", projects=["other"])
    return await w.ask(token, "POST", "/v1/projects", {"name": "third"})


async def without_connect(w: World) -> httpx.Response:
    return await w.tunnel(await w.special("reader", scopes=["events:read"]))


async def without_write_claims(w: World) -> httpx.Response:
    return await w.tunnel(await w.special("plain", scopes=["connect"]), "fresh")


async def without_write_deletes(w: World) -> httpx.Response:
    return await w.ask(await w.special("plain", scopes=["connect"]), "DELETE", "/v1/projects/shop")


async def anothers_token(w: World) -> httpx.Response:
    (first, *_) = (await w.rig.do("GET", "/v1/tokens", token=w.tokens["ann"]))["tokens"]
    return await w.ask("eve", "DELETE", f"/v1/tokens/{first['id']}")


async def tampered(w: World) -> httpx.Response:
    token = w.tokens["ann"]
    return await w.tunnel(token[:20] + ("a" if token[20] != "a" else "b") + token[21:])


def events(who: str, path: str = "/events") -> Attempt:
    """Read events of the project shop, by a name or with a token of ann's of these scopes and projects."""
    return lambda w: w.ask(who, "GET", f"{w.rig.api_url}/v1/projects/shop{path}")


def events_with(*scopes: str, projects: tuple[str, ...] = ()) -> Attempt:
    async def attempt(w: World) -> httpx.Response:
        token = await w.special("special", scopes=scopes, projects=projects)
        return await w.ask(token, "GET", f"{w.rig.api_url}/v1/projects/shop/events")

    return attempt


def replay(who: str) -> Attempt:
    body = {"since": "2026-01-01T00:00:00Z"}
    return lambda w: w.ask(who, "POST", f"{w.rig.api_url}/v1/projects/shop/replays", body)


async def replay_without_the_scope(w: World) -> httpx.Response:
    return await replay(await w.special("reader", scopes=["events:read"]))(w)


EVENT_CASES: dict[str, tuple[int, Attempt]] = {
    "a stranger lists": (404, events("eve")),
    "a stranger follows": (404, events("eve", "/events/follow")),
    "a stranger asks for the backlog": (404, events("eve", "/backlog")),
    "a stranger asks for an event": (404, events("eve", "/events/evt_01JZ0000000000000000000000")),
    "a stranger asks for it raw": (404, events("eve", "/events/evt_01JZ0000000000000000000000/raw")),
    "a stranger replays": (404, replay("eve")),
    "a viewer replays": (403, replay("vic")),
    "a token without the scope to replay": (403, replay_without_the_scope),
    "a token without the scope to read": (403, events_with("connect", "events:replay")),
    "a token for another project": (404, events_with("events:read", projects=("other",))),
    "an unknown token": (401, events("whk_" + "a" * 49)),
}


ACCOUNT_CASES: dict[str, tuple[int, Attempt]] = {
    "no such token": (401, lambda w: w.tunnel("whk_" + "a" * 49)),
    "a token cut short": (401, lambda w: w.tunnel(w.tokens["ann"][:-1])),
    "a token tampered with": (401, tampered),
    "an expired token": (401, expired),
    "a revoked token": (401, revoked),
    "a token of a disabled account": (401, disabled),
    "a stranger opens a tunnel": (403, lambda w: w.tunnel("eve")),
    "a stranger looks on": (403, lambda w: w.tunnel("eve", watch=True)),
    "a viewer opens a tunnel": (403, lambda w: w.tunnel("vic")),
    "a viewer looks on": (403, lambda w: w.tunnel("vic", watch=True)),
    "one who was removed opens a tunnel": (403, removed),
    "a project that was deleted and claimed by another": (403, deleted_and_claimed),
    "a token for another project": (403, restricted),
    "a token for another project reads members": (403, restricted_members),
    "a token for another project makes one for this": (403, restricted_makes_wider),
    "a token for another project claims a third": (403, restricted_claims),
    "a token that may not connect": (403, without_connect),
    "a token that may not claim": (403, without_write_claims),
    "a token that may not write deletes": (403, without_write_deletes),
    "a stranger reads the members": (403, lambda w: w.ask("eve", "GET", "/v1/projects/shop/members")),
    "a stranger makes itself owner": (
        403,
        lambda w: w.ask("eve", "PUT", "/v1/projects/shop/members/eve", {"role": "owner"}),
    ),
    "a developer makes itself owner": (
        403,
        lambda w: w.ask("bob", "PUT", "/v1/projects/shop/members/bob", {"role": "owner"}),
    ),
    "a viewer makes itself developer": (
        403,
        lambda w: w.ask("vic", "PUT", "/v1/projects/shop/members/vic", {"role": "developer"}),
    ),
    "a developer removes the owner": (403, lambda w: w.ask("bob", "DELETE", "/v1/projects/shop/members/ann")),
    "a stranger removes a member": (403, lambda w: w.ask("eve", "DELETE", "/v1/projects/shop/members/bob")),
    "a stranger deletes the project": (403, lambda w: w.ask("eve", "DELETE", "/v1/projects/shop")),
    "a developer deletes the project": (403, lambda w: w.ask("bob", "DELETE", "/v1/projects/shop")),
    "a taken name is claimed": (409, lambda w: w.ask("eve", "POST", "/v1/projects", {"name": "shop"})),
    "anothers token is revoked": (404, anothers_token),
    "a token with more scopes than one's own": (
        403,
        lambda w: w.ask("eve", "POST", "/v1/tokens", {"name": "x", "scopes": ["admin"]}),
    ),
    "no admin lists accounts": (403, lambda w: w.ask("ann", "GET", "/v1/users")),
    "no admin makes an account": (
        403,
        lambda w: w.ask("ann", "POST", "/v1/users", {"name": "x", "password": PASSWORD, "admin": True}),
    ),
    "no admin disables an account": (403, lambda w: w.ask("eve", "DELETE", "/v1/users/ann")),
    "no admin reads the audit trail": (403, lambda w: w.ask("ann", "GET", "/v1/audit")),
    "no admin rotates keys": (403, lambda w: w.ask("ann", "POST", "/v1/signing-keys")),
    "a password changed with a wrong one": (
        403,
        lambda w: w.ask("eve", "PUT", "/v1/users/me/password", {"current": "wrong", "new": PASSWORD}),
    ),
}


async def alg_none(w: World) -> httpx.Response:
    head, body, _ = (await w.tunnel_token()).split(".")
    kid = json.loads(unpad(head))["kid"]
    none = pad(json.dumps({"alg": "none", "kid": kid}).encode())
    return await w.connect(f"{none}.{body}.")


async def confused(w: World) -> httpx.Response:
    """HS256 with the public key as the secret (RFC 8725 section 2.1)."""
    (public,) = (await w.rig.do("GET", "/.well-known/jwks.json", token=""))["keys"]
    body = (await w.tunnel_token()).split(".")[1]
    head = pad(json.dumps({"alg": "HS256", "kid": public["kid"]}).encode())
    mac = hmac.new(unpad(public["x"]), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return await w.connect(f"{head}.{body}.{pad(mac)}")


async def own_key_in_header(w: World) -> httpx.Response:
    return await w.connect(await w.forge(SigningKey.generate()))


async def anothers_claims(w: World) -> httpx.Response:
    head, body, mac = (await w.tunnel_token()).split(".")
    claims = json.loads(unpad(body)) | {"prn": "bank", "prj": "prj_bank"}
    return await w.connect(f"{head}.{pad(json.dumps(claims).encode())}.{mac}")


def forged(relay: str = RELAY, **claims: Any) -> Attempt:
    async def attempt(w: World) -> httpx.Response:
        return await w.connect(await w.forge(relay=relay, **claims))

    return attempt


RELAY_CASES: dict[str, Attempt] = {
    "no token": lambda w: w.connect(""),
    "rubbish": lambda w: w.connect("rubbish"),
    "an access token": lambda w: w.connect(w.tokens["ann"]),
    "alg none": alg_none,
    "key confusion": confused,
    "a key of one's own": own_key_in_header,
    "claims of another project": anothers_claims,
    "another relay": forged(relay="relay-2"),
    "another audience": forged(aud="whook-conductor"),
    "another issuer": forged(iss="eve"),
    "another purpose": forged(pur="session"),
    "expired": forged(exp=int(time.time()) - 3600),
    "no expiry": forged(exp=None),
    "issued in the future": forged(iat=int(time.time()) + 3600, exp=int(time.time()) + 7200),
    "no project": forged(prj=None),
}


async def code_used_again(w: World) -> httpx.Response:
    codes = await w.device()
    async with w.browser("ann") as browser:
        await approve(browser, codes["user_code"])
    assert (await w.redeem(codes["device_code"])).status_code == 200
    return await w.redeem(codes["device_code"])


async def approve(browser: httpx.AsyncClient, code: str, **more: Any) -> httpx.Response:
    page = (await browser.get("/device", params={"user_code": code})).text
    fields = {"csrf": csrf(page), "user_code": code, "decision": "approve"} | more.pop("fields", {})
    return await browser.post("/device", data=fields, **more)


async def without_csrf(w: World) -> httpx.Response:
    code = (await w.device())["user_code"]
    async with w.browser("ann") as browser:
        return await approve(browser, code, fields={"csrf": ""})


async def csrf_of_another(w: World) -> httpx.Response:
    code = (await w.device())["user_code"]
    async with w.browser("eve") as eve, w.browser("ann") as ann:
        theirs = csrf((await eve.get("/device")).text)
        return await approve(ann, code, fields={"csrf": theirs})


async def from_a_project(w: World) -> httpx.Response:
    """A page of a project is the same site for a browser, but not the same origin."""
    code = (await w.device())["user_code"]
    async with w.browser("ann") as browser:
        return await approve(browser, code, headers={"Origin": "http://shop.localhost:8080"})


async def from_another_site(w: World) -> httpx.Response:
    code = (await w.device())["user_code"]
    async with w.browser("ann") as browser:
        return await approve(browser, code, headers={"Sec-Fetch-Site": "cross-site"})


async def login_csrf(w: World) -> httpx.Response:
    return await w.rig.form("/login", name="eve", password=PASSWORD, csrf="0" * 64)


async def wrong_password(w: World) -> httpx.Response:
    page = (await w.rig.client.get(f"{w.rig.url}/login")).text
    return await w.rig.form("/login", csrf=csrf(page), name="ann", password="wrong password")


async def unknown_name(w: World) -> httpx.Response:
    page = (await w.rig.client.get(f"{w.rig.url}/login")).text
    return await w.rig.form("/login", csrf=csrf(page), name="nobody", password="wrong password")


async def wrong_user_code(w: World) -> httpx.Response:
    async with w.browser("eve") as browser:
        return await browser.get("/device", params={"user_code": "BBBB-BBBB"})


async def admin_by_device(w: World) -> httpx.Response:
    code = (await w.device(scope="admin"))["user_code"]
    async with w.browser("ann") as browser:
        return await approve(browser, code)


async def decided_twice(w: World) -> httpx.Response:
    code = (await w.device())["user_code"]
    async with w.browser("ann") as ann, w.browser("eve") as eve:
        page = csrf((await eve.get("/device")).text)
        await approve(ann, code)
        return await eve.post("/device", data={"csrf": page, "user_code": code, "decision": "approve"})


async def expired_user_code(w: World) -> httpx.Response:
    code = (await w.device())["user_code"]
    async with w.browser("ann") as browser:
        w.rig.clock.ahead += timedelta(minutes=11)
        return await browser.get("/device", params={"user_code": code})


LOGIN_CASES: dict[str, tuple[int, Attempt]] = {
    "a device code used again": (400, code_used_again),
    "an unknown device code": (400, lambda w: w.redeem("rubbish")),
    "a form without its token": (FORGED, without_csrf),
    "a form with another session's token": (FORGED, csrf_of_another),
    "a form from a project's page": (FORGED, from_a_project),
    "a form from another site": (FORGED, from_another_site),
    "a login that another site sends": (FORGED, login_csrf),
    "a wrong password": (403, wrong_password),
    "an unknown name": (403, unknown_name),
    "a guessed user code": (404, wrong_user_code),
    "a device that wants to be admin": (409, admin_by_device),
    "a login decided by another": (409, decided_twice),
    "an expired user code": (404, expired_user_code),
}

STATUSES = {f"account: {name}": case for name, case in ACCOUNT_CASES.items()}
STATUSES |= {f"events: {name}": case for name, case in EVENT_CASES.items()}
STATUSES |= {f"relay: {name}": (401, attempt) for name, attempt in RELAY_CASES.items()}
STATUSES |= {f"login: {name}": case for name, case in LOGIN_CASES.items()}


@pytest.mark.parametrize("name", STATUSES)
async def test_refused_and_audited(world: World, name: str) -> None:
    status, attempt = STATUSES[name]
    before = world.rig.recorded.count
    answer = await attempt(world)
    assert answer.status_code == status, answer.text
    assert not any(token in answer.text for token in world.tokens.values())
    await world.rig.recorded.wait(before + 1)
    entry = (await world.rig.refusals())[0]
    assert entry.address == "127.0.0.1"
    assert entry.action
    assert entry.detail


async def test_a_login_always_gets_a_new_cookie(world: World) -> None:
    """Session fixation: a cookie that somebody else chose is never the one that is logged in."""
    async with httpx.AsyncClient(base_url=world.rig.url, trust_env=False) as browser:
        browser.cookies.set("whook_session", "chosen", domain="127.0.0.1")
        page = (await browser.get("/login")).text
        fields = {"csrf": csrf(page), "name": "ann", "password": PASSWORD}
        answer = await browser.post("/login", data=fields)
        (given,) = [c for c in answer.headers.get_list("set-cookie") if c.startswith("whook_session=")]
        assert not given.startswith("whook_session=chosen")
        assert "HttpOnly" in given
        assert "SameSite=lax" in given
    fixed = {"Cookie": "whook_session=chosen"}
    page = await world.rig.client.get(f"{world.rig.url}/device", headers=fixed)
    assert page.headers["location"].startswith("/login")


async def test_members_may_what_their_role_says(world: World) -> None:
    """The other half of the refusals above: the same requests, by those who may."""
    assert (await world.tunnel("ann")).status_code == 200
    assert (await world.tunnel("bob")).status_code == 200
    names = await world.rig.do("GET", "/v1/projects", token=world.tokens["vic"])
    assert names == {"projects": [{"name": "shop", "role": "viewer"}]}
    await world.rig.do("DELETE", "/v1/projects/shop/members/vic", token=world.tokens["vic"])
