"""What the JSON APIs of all services have in common: a FastAPI application whose every error is a problem.

Called by the services that have an API. It must never know what an API is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Protocol, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from whook.chassis.metrics import version
from whook.chassis.problem import CONTENT_TYPE, ProblemError


class Problem(BaseModel):
    """A problem (RFC 9457)."""

    type: str = Field(examples=["urn:whook:problem:forbidden"])
    title: str
    status: int
    detail: str = ""


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the part of an operation's description that says which problems it answers with."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {CONTENT_TYPE: {"schema": schema}},
            "model": Problem,
        }
        for status in statuses
    }


def new_api(title: str) -> FastAPI:
    """Return an application without operations. Its document is at /openapi.json."""
    app = FastAPI(title=title, version=version(), docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)
    return app


def client_address(request: Request, trusted: Sequence[Network] = ()) -> str:
    """Return the address of who asks; what load balancers in ``trusted`` say of it is believed.

    X-Forwarded-For is read from its end, since anybody may write what stands before.
    """
    address = request.client.host if request.client is not None else ""
    forwarded = [
        part.strip() for line in request.headers.getlist("x-forwarded-for") for part in line.split(",")
    ]
    while forwarded and _among(address, trusted):
        address = forwarded.pop()
    return address if _is_address(address) else ""


class Network(Protocol):
    """An IPv4Network or IPv6Network."""

    def __contains__(self, address: object, /) -> bool: ...


def _among(address: str, networks: Sequence[Network]) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def respond(error: ProblemError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that a problem is."""
    response = Response(error.body, error.status, headers)
    for name, value in error.headers:
        response.headers[name.decode()] = value.decode()
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["www-authenticate"] = "Bearer"
    return response


async def _on_problem(_: Request, error: Exception) -> Response:
    return respond(cast("ProblemError", error))


async def _on_invalid(_: Request, error: Exception) -> Response:
    faults = [
        {"at": ".".join(str(part) for part in fault["loc"]), "fault": fault["msg"]}
        for fault in cast("RequestValidationError", error).errors()
    ]
    detail = "; ".join(f"{fault['at']}: {fault['fault']}" for fault in faults)
    return respond(ProblemError(422, "invalid-request", "Invalid request", detail, errors=faults))


async def _on_http_error(_: Request, error: Exception) -> Response:
    raised = cast("HTTPException", error)
    phrase = HTTPStatus(raised.status_code).phrase
    slug = phrase.lower().replace(" ", "-")
    return respond(ProblemError(raised.status_code, slug, phrase), raised.headers)


async def _on_defect(_: Request, __: Exception) -> Response:
    return respond(
        ProblemError(500, "internal-error", "Internal error", "This is a defect; the log says more.")
    )
