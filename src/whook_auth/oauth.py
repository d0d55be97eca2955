"""The OAuth operations: device authorization (RFC 8628) and its token endpoint (RFC 6749 section 3.2).

Mounted into the auth API. Shape only: what is decided is in `device`. Their errors are those of OAuth, not
problems, as clients of OAuth expect. Clients are public and not registered, so `client_id` is only a name.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from whook.backplane.ports import Unavailable
from whook_auth import models
from whook_auth.access import Service
from whook_auth.device import LIFETIME, DeviceError
from whook_auth.forms import CONTENT_TYPE, BadFormError, read_form

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_PRIVATE: Final = {"cache-control": "no-store"}


def build_oauth() -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/oauth", tags=["login"])

    @router.post(
        "/device_authorization",
        openapi_extra=_form(["client_id"], {"client_id": {}, "scope": {}}),
        responses=_errors(400, 503),
        response_model=models.DeviceCodes,
    )
    async def device_authorization(request: Request, parts: Service) -> JSONResponse:
        """Begin a login on a device: it shows the user code and polls with the device code."""
        try:
            form = await read_form(request)
            _require(form, "client_id")
            begun = await parts.devices.begin(form.get("scope", "").split(), form["client_id"])
        except (BadFormError, DeviceError, Unavailable) as error:
            return _refusal(error)
        page = f"{parts.public_url}/device"
        codes = models.DeviceCodes(
            device_code=begun.device_code,
            user_code=begun.user_code,
            verification_uri=page,
            verification_uri_complete=f"{page}?user_code={begun.user_code}",
            expires_in=int(LIFETIME.total_seconds()),
            interval=begun.interval,
        )
        return JSONResponse(codes.model_dump(), headers=_PRIVATE)

    @router.post(
        "/token",
        openapi_extra=_form(
            ["grant_type", "device_code", "client_id"],
            {"grant_type": {"enum": [DEVICE_GRANT]}, "device_code": {}, "client_id": {}},
        ),
        responses=_errors(400, 503),
        response_model=models.Issued,
    )
    async def token(request: Request, parts: Service) -> JSONResponse:
        """Redeem a device code, once its user has approved it."""
        try:
            form = await read_form(request)
            _require(form, "grant_type", "device_code", "client_id")
            if form["grant_type"] != DEVICE_GRANT:
                raise DeviceError("unsupported_grant_type", f"the grant type is {DEVICE_GRANT}")
            made, stored = await parts.devices.redeem(form["device_code"])
        except (BadFormError, DeviceError, Unavailable) as error:
            return _refusal(error)
        issued = models.Issued(access_token=made, scope=" ".join(sorted(stored.scopes)))
        return JSONResponse(issued.model_dump(), headers=_PRIVATE)

    return router


def _require(form: dict[str, str], *names: str) -> None:
    missing = [name for name in names if not form.get(name)]
    if missing:
        raise BadFormError(f"missing: {', '.join(missing)}")


def _refusal(error: Exception) -> JSONResponse:
    status, code, detail = 400, "invalid_request", str(error)
    if isinstance(error, DeviceError):
        code = error.code
        status = 503 if code == "temporarily_unavailable" else 400
    elif isinstance(error, Unavailable):
        status, code, detail = 503, "temporarily_unavailable", "the server cannot decide this now"
    headers = _PRIVATE | ({"retry-after": "5"} if status == 503 else {})
    return JSONResponse({"error": code, "error_description": detail}, status, headers)


def _form(required: list[str], fields: dict[str, dict[str, Any]]) -> dict[str, Any]:
    properties = {name: {"type": "string", **more} for name, more in fields.items()}
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {CONTENT_TYPE: {"schema": schema}}}}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": models.OAuthError} for status in statuses}
