"""What auth answers to conductors and relays, over HTTP: the Auth port, behind a service key.

Built by the composition root and mounted into auth's application. Shape only: the decisions are those of the
port. docs/reference/internal-auth-api.md describes it; it is not for people and stays out of the OpenAPI
document. It must never answer a caller without the service key, the public keys excepted.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, Request, Response

from whook.backplane.ports import Auth, AuthDenied, Unavailable
from whook.backplane.ports import auth_messages as messages
from whook.backplane.ports.auth import CALLER
from whook.chassis.problem import ProblemError

KEYS_MAX_AGE = 60
"""Seconds for which the published keys may be cached (RFC 9111 section 5.2.2.1): new ones are published ten
minutes before they sign."""

B = TypeVar("B", bound=msgspec.Struct)


def build_internal_api(auth: Auth, service_keys: Sequence[str]) -> APIRouter:
    """Return the routes. Any of ``service_keys`` is accepted, so that they can be replaced one by one.

    Raises ValueError if there is no key, or an empty one.
    """
    accepted = [key.encode() for key in service_keys]
    if not accepted or not all(accepted):
        raise ValueError("the internal API needs a service key")
    router = APIRouter(include_in_schema=False)

    def post(path: str, kind: type[B]) -> Callable[[Callable[[B], Awaitable[object]]], None]:
        """Answer POST requests to ``path`` with what a function makes of the body."""

        def register(answer: Callable[[B], Awaitable[object]]) -> None:
            async def endpoint(request: Request) -> Response:
                return await _respond(request, accepted, kind, answer)

            router.add_api_route(path, endpoint, methods=["POST"])

        return register

    @post(messages.AUTHENTICATE, messages.AuthenticateRequest)
    async def authenticate(body: messages.AuthenticateRequest) -> object:
        return await auth.authenticate(body.token)

    @post(messages.AUTHORIZE_TUNNEL, messages.AuthorizeRequest)
    async def authorize_tunnel(body: messages.AuthorizeRequest) -> object:
        await auth.authorize_tunnel(body.principal, body.project, create=body.create)
        return None

    @post(messages.AUTHORIZE_PROJECT, messages.AuthorizeProjectRequest)
    async def authorize_project(body: messages.AuthorizeProjectRequest) -> object:
        await auth.authorize_project(body.principal, body.project, body.scope)
        return None

    @post(messages.PROJECTS, messages.ProjectsRequest)
    async def projects(body: messages.ProjectsRequest) -> object:
        return messages.ProjectsAnswer(projects=await auth.projects_of(body.principal))

    @post(messages.TUNNEL_TOKENS, messages.MintRequest)
    async def mint_tunnel_token(body: messages.MintRequest) -> object:
        return await auth.mint_tunnel_token(body.principal, body.project, body.relay_id)

    @router.get(messages.JWKS)
    async def jwks() -> Response:
        try:
            keys = await auth.jwks()
        except Unavailable:
            return _problem(ProblemError(503, messages.UNAVAILABLE))
        headers = {"cache-control": f"public, max-age={KEYS_MAX_AGE}"}
        return Response(msgspec.json.encode(keys), media_type="application/jwk-set+json", headers=headers)

    return router


async def _respond(
    request: Request, accepted: Sequence[bytes], kind: type[B], answer: Callable[[B], Awaitable[object]]
) -> Response:
    given = request.headers.get(messages.SERVICE_KEY, "").encode()
    if not any(hmac.compare_digest(given, key) for key in accepted):
        return _problem(ProblemError(401, messages.BAD_SERVICE_KEY, detail="The service key is refused."))
    try:
        body = msgspec.json.decode(await request.body(), type=kind)
    except msgspec.MsgspecError as error:
        return _problem(ProblemError(400, "bad-request", detail=str(error)))
    reset = CALLER.set(request.headers.get(messages.CALLER, ""))
    try:
        return _answer(await answer(body))
    except AuthDenied as denied:
        return _problem(ProblemError(403, messages.DENIED, detail=denied.detail, reason=denied.reason))
    except ValueError as error:
        return _problem(ProblemError(422, messages.BAD_NAME, detail=str(error)))
    except Unavailable:
        return _problem(ProblemError(503, messages.UNAVAILABLE))
    finally:
        CALLER.reset(reset)


def _answer(value: Any) -> Response:
    if value is None:
        return Response(status_code=204)
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(value), media_type="application/json", headers=headers)


def _problem(error: ProblemError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body, error.status, headers)
