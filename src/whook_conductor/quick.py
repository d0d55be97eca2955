"""`POST /v1/tunnels` without the framework: the one call of the API that comes by the thousands.

Clients make it for a tunnel, and all at once when a relay has gone. Stands in front of the FastAPI
application, which describes the call and answers all others, and this one too whenever it is not exactly what
a client sends: so whatever is refused is refused by the same code, in the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import Request, Response

from whook.backplane.ports import CALLER
from whook.chassis.api import Network, client_address, respond
from whook.chassis.asgi import App
from whook.chassis.problem import ProblemError
from whook_conductor.control import Control, Grant

PATH: Final = "/v1/tunnels"

_TYPE: Final = b"application/json"


class _Wanted(msgspec.Struct):
    """What a client asks for: `api.TunnelRequest`, without the liberties that its validation takes."""

    project: str
    instance: Annotated[str, msgspec.Meta(max_length=128)] = ""
    watch: bool = False


_decoder = msgspec.json.Decoder(_Wanted)


class QuickTunnels:
    """An ASGI application around another one."""

    def __init__(self, app: App, control: Control, *, trusted_proxies: Sequence[Network] = ()) -> None:
        """``trusted_proxies`` may say on whose behalf they ask."""
        self._app = app
        self._control = control
        self._trusted = trusted_proxies

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        messages: list[Any] = []
        while not messages or messages[-1].get("more_body", False):
            messages.append(await receive())
        token = _bearer(scope["headers"])
        wanted = _decode(b"".join(message.get("body", b"") for message in messages)) if token else None
        if token is None or wanted is None:

            async def again() -> Any:
                return messages.pop(0) if messages else await receive()

            await self._app(scope, again, send)
            return
        CALLER.set(client_address(Request(scope), self._trusted))
        try:
            grant = await self._control.open_tunnel(token, wanted.project, watch=wanted.watch)
        except ProblemError as problem:
            response = respond(problem)
        else:
            response = Response(_encode(grant), HTTPStatus.OK, media_type="application/json")
        await response(scope, receive, send)


def _bearer(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Return the access token of a request that is as clients send it, or None."""
    token = None
    json = False
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if token is not None or scheme.lower() != b"bearer" or not rest.strip():
                return None
            token = rest.decode("latin-1")
        elif name == b"content-type":
            json = value == _TYPE
    return token if json else None


def _decode(body: bytes) -> _Wanted | None:
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _encode(grant: Grant) -> bytes:
    return msgspec.json.encode(
        {
            "websocket_url": grant.websocket_url,
            "token": grant.token,
            "project_id": grant.project_id,
            "public_url": grant.public_url,
            "expires_at": grant.expires_at,
            "backlog": grant.backlog,
        }
    )
