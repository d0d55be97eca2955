"""Who asks the API: the access token of a request, and the address it came from.

Used by the modules that give the API its shape. Whether a token is good is auth's business.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from whook.backplane.ports import CALLER
from whook.chassis.api import client_address

_bearer = HTTPBearer(auto_error=False, description="An access token (`whk_…`).")


async def _token(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> str:
    CALLER.set(client_address(request, request.app.state.trusted_proxies))
    return credentials.credentials if credentials is not None else ""


Token = Annotated[str, Depends(_token)]
"""The access token; empty without one."""
