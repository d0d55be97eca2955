"""What auth answers to conductors and relays, over HTTP: the Auth port, behind a service key.

Built by the composition root and mounted into auth's application. Shape only: the decisions are those of the
port. docs/reference/internal-auth-api.md describes it; it is not for people and stays out of the OpenAPI
document. It must never answer a caller without the service key, the public keys excepted.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TypeVar

import msgspec
import trio
from fastapi import APIRouter, Request, Response

from whook.backplane.ports import Auth, AuthDenied, Unavailable
from whook.backplane.ports import auth_messages as messages
from whook.backplane.ports.auth import CALLER
from whook.chassis.problem import CONTENT_TYPE, ProblemError

KEYS_MAX_AGE = 60
"""Seconds for which the published keys may be cached (RFC 9111 section 5.2.2.1): new ones are published ten
minutes before they sign."""

B = TypeVar("B", bound=msgspec.Struct)

_Decision = Callable[[bytes, str], Awaitable[tuple[int, bytes]]]


def build_internal_api(auth: Auth, service_keys: Sequence[str]) -> APIRouter:
    """Return the routes. Any of ``service_keys`` is accepted, so that they can be replaced one by one.

    Raises ValueError if there is no key, or an empty one.
    """
    accepted = [key.encode() for key in service_keys]
    if not accepted or not all(accepted):
        raise ValueError("the internal API needs a service key")
    router = APIRouter(include_in_schema=False)
    decisions: dict[str, _Decision] = {}

    def post(path: str, kind: type[B]) -> Callable[[Callable[[B], Awaitable[object]]], None]:
        """Answer POST requests to ``path`` with what a function makes of the body."""

        def register(answer: Callable[[B], Awaitable[object]]) -> None:
            decide = decisions[path] = _decision(kind, answer)

            async def endpoint(request: Request) -> Response:
                if refusal := _check(request, accepted):
                    return refusal
                caller = request.headers.get(messages.CALLER, "")
                return _response(*await decide(await request.body(), caller))

            router.add_api_route(path, endpoint, methods=["POST"])

        return register

    @post(messages.AUTHENTICATE, messages.AuthenticateRequest)
    async def authenticate(body: messages.AuthenticateRequest) -> object:
        return await auth.authenticate(body.token)

    @post(messages.AUTHORIZE_TUNNEL, messages.AuthorizeRequest)
    async def authorize_tunnel(body: messages.AuthorizeRequest) -> object:
        project_id = await auth.authorize_tunnel(body.principal, body.project, create=body.create)
        return messages.AuthorizeAnswer(project_id=project_id)

    @post(messages.AUTHORIZE_PROJECT, messages.AuthorizeProjectRequest)
    async def authorize_project(body: messages.AuthorizeProjectRequest) -> object:
        project_id = await auth.authorize_project(body.principal, body.project, body.scope)
        return messages.AuthorizeAnswer(project_id=project_id)

    @post(messages.AUTHORIZE_ADMIN, messages.AuthorizeAdminRequest)
    async def authorize_admin(body: messages.AuthorizeAdminRequest) -> object:
        await auth.authorize_admin(body.principal, body.action, body.target, change=body.change)
        return None

    @post(messages.PROJECTS, messages.ProjectsRequest)
    async def projects(body: messages.ProjectsRequest) -> object:
        return messages.ProjectsAnswer(projects=await auth.projects_of(body.principal))

    @post(messages.TUNNEL_TOKENS, messages.MintRequest)
    async def mint_tunnel_token(body: messages.MintRequest) -> object:
        return await auth.mint_tunnel_token(body.principal, body.project, body.relay_id)

    @router.post(messages.BATCH)
    async def batch(request: Request) -> Response:
        if refusal := _check(request, accepted):
            return refusal
        try:
            items = msgspec.json.decode(await request.body(), type=list[messages.BatchedRequest])
        except msgspec.MsgspecError as error:
            return _problem(ProblemError(400, "bad-request", detail=str(error)))
        answers = await _decide_all(items, decisions)
        return _response(200, msgspec.json.encode(answers))

    @router.get(messages.JWKS)
    async def jwks() -> Response:
        try:
            keys = await auth.jwks()
        except Unavailable:
            return _problem(ProblemError(503, messages.UNAVAILABLE))
        headers = {"cache-control": f"public, max-age={KEYS_MAX_AGE}"}
        return Response(msgspec.json.encode(keys), media_type="application/jwk-set+json", headers=headers)

    return router


def _check(request: Request, accepted: Sequence[bytes]) -> Response | None:
    """Return the refusal of a caller that has no service key."""
    given = request.headers.get(messages.SERVICE_KEY, "").encode()
    if any(hmac.compare_digest(given, key) for key in accepted):
        return None
    return _problem(ProblemError(401, messages.BAD_SERVICE_KEY, detail="The service key is refused."))


def _decision(kind: type[B], answer: Callable[[B], Awaitable[object]]) -> _Decision:
    """Return the function that makes a status and a body of a request's body and its caller's address."""
    decoder = msgspec.json.Decoder(kind)

    async def decide(body: bytes, caller: str) -> tuple[int, bytes]:
        try:
            asked = decoder.decode(body)
        except msgspec.MsgspecError as error:
            return _refused(ProblemError(400, "bad-request", detail=str(error)))
        reset = CALLER.set(caller)
        try:
            found = await answer(asked)
        except AuthDenied as denied:
            return _refused(ProblemError(403, messages.DENIED, detail=denied.detail, reason=denied.reason))
        except ValueError as error:
            return _refused(ProblemError(422, messages.BAD_NAME, detail=str(error)))
        except Unavailable:
            return _refused(ProblemError(503, messages.UNAVAILABLE))
        finally:
            CALLER.reset(reset)
        return (204, b"") if found is None else (200, msgspec.json.encode(found))

    return decide


async def _decide_all(
    items: Sequence[messages.BatchedRequest], decisions: Mapping[str, _Decision]
) -> list[messages.BatchedAnswer]:
    """Decide all at once: what they ask of the database is then one question as well."""
    found: list[messages.BatchedAnswer | None] = [None] * len(items)

    async def decide(place: int, item: messages.BatchedRequest) -> None:
        decision = decisions.get(item.path)
        if decision is None:
            status, body = _refused(ProblemError(404, "not-found"))
        else:
            status, body = await decision(bytes(item.body), item.caller)
        found[place] = messages.BatchedAnswer(status=status, body=msgspec.Raw(body or b"null"))

    async with trio.open_nursery() as nursery:
        for place, item in enumerate(items):
            nursery.start_soon(decide, place, item)
    return [one for one in found if one is not None]


def _refused(error: ProblemError) -> tuple[int, bytes]:
    return error.status, error.body


def _response(status: int, body: bytes) -> Response:
    if status == HTTPStatus.NO_CONTENT:
        return Response(status_code=status)
    kind = "application/json" if status == HTTPStatus.OK else CONTENT_TYPE
    return Response(body, status, {"cache-control": "no-store"}, media_type=kind)


def _problem(error: ProblemError) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return Response(error.body, error.status, headers)
