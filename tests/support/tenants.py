"""People with different rights in one project, and what they can try, over real sockets."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.auth_rig import DEVICE_GRANT, PASSWORD, RELAY, AuthRig
from tests.support.deadlines import DEADLINE
from whook.chassis.tunnel_token import SigningKey, TunnelClaims, sign


class World:
    """Ann owns shop; bob develops it, vic views it, eve has nothing to do with it."""

    def __init__(self, rig: AuthRig, tokens: dict[str, str]) -> None:
        self.rig = rig
        self.tokens = tokens

    async def ask(self, who: str, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.rig.ask(method, path, body, token=self.tokens.get(who, who))

    async def tunnel(self, who: str, project: str = "shop", *, watch: bool = False) -> httpx.Response:
        path = f"{self.rig.api_url}/v1/tunnels"
        return await self.ask(who, "POST", path, {"project": project, "watch": watch})

    async def special(self, name: str, **more: Any) -> str:
        """Give a token of ann's with properties of its own."""
        account = await self.rig.store.account(name="ann")
        assert account is not None
        scopes = more.pop("scopes", ("connect", "projects:write"))
        return (await self.rig.auth.create_token(account.id, name, scopes, **more))[0]

    async def connect(self, token: str) -> httpx.Response:
        """Knock at the relay with a tunnel token."""
        url = self.rig.tunnel_url.replace("ws://", "http://")
        headers = {
            "Authorization": f"Bearer {token}".strip(),
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(b"k" * 16).decode(),
            "Sec-WebSocket-Protocol": "whook.v1",
        }
        return await self.rig.client.get(url, headers=headers)

    async def tunnel_token(self) -> str:
        granted = await self.tunnel("ann")
        assert granted.status_code == 200, granted.text
        return str(granted.json()["token"])

    async def forge(self, key: SigningKey | None = None, relay: str = RELAY, **claims: Any) -> str:
        """Give a tunnel token with some claims changed, signed with auth's own key by default."""
        issued = TunnelClaims.issue(
            user_id="usr_eve", project_id="prj_1", project="shop", relay_id=relay, token_id="t", lifetime=60
        )
        if key is None:
            (stored,) = await self.rig.store.signing_keys()
            key = SigningKey.from_pem(stored.private_pem)
        if not claims:
            return sign(key, issued)
        payload = json.loads(unpad(sign(key, issued).split(".")[1]))
        return key.sign_jwt({k: v for k, v in (payload | claims).items() if v is not None})

    async def device(self, scope: str = "connect") -> dict[str, Any]:
        begun = await self.rig.form("/oauth/device_authorization", client_id="test", scope=scope)
        assert begun.status_code == 200, begun.text
        codes: dict[str, Any] = begun.json()
        return codes

    async def redeem(self, device_code: str) -> httpx.Response:
        return await self.rig.form(
            "/oauth/token", grant_type=DEVICE_GRANT, device_code=device_code, client_id="test"
        )

    @asynccontextmanager
    async def browser(self, name: str) -> AsyncGenerator[httpx.AsyncClient]:
        """Give a browser that has logged in."""
        async with httpx.AsyncClient(base_url=self.rig.url, timeout=DEADLINE, trust_env=False) as client:
            await log_in(client, name)
            yield client


async def log_in(client: httpx.AsyncClient, name: str) -> None:
    page = (await client.get("/login")).text
    answer = await client.post("/login", data={"csrf": csrf(page), "name": name, "password": PASSWORD})
    assert answer.status_code == 303, answer.text


def csrf(page: str) -> str:
    return page.split('name="csrf" value="')[1].split('"')[0]


def unpad(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def pad(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
