"""The Auth port over HTTP, for a conductor that runs apart from auth.

The composition root opens it. Positive decisions are remembered, see `cache`; a tunnel token is asked for
every time, since it outlives the question. It must never decide anything by itself.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import trio

from whook.backplane.auth_http.cache import DecisionCache
from whook.backplane.auth_http.connection import DEADLINE, AuthConnection, open_connection
from whook.backplane.ports import (
    TOPIC_KICK,
    Bus,
    BusGap,
    Principal,
    Project,
    ProjectScope,
    Subscription,
    TunnelToken,
    Unavailable,
    decode_kick,
)
from whook.backplane.ports import auth_messages as messages
from whook.chassis.logs import get_logger

_RETRY: Final = 1.0
"""Seconds between two attempts to follow the bus while it is away."""

_log = get_logger("whook.auth_http")

T = TypeVar("T")


class HttpAuth:
    """The Auth port."""

    def __init__(self, connection: AuthConnection, cache: DecisionCache | None = None) -> None:
        self._connection = connection
        self._cache = cache or DecisionCache()

    async def authenticate(self, token: str) -> Principal:
        """Return who holds the token. Raises AuthDenied and Unavailable."""
        found = self._cache.principal(token)
        if found is not None:
            return found
        kicks = self._cache.kicks
        try:
            answer = await self._connection.post(
                messages.AUTHENTICATE, messages.AuthenticateRequest(token=token)
            )
        except Unavailable:
            found = self._cache.principal(token, outage=True)
            if found is None:
                raise
            return found
        principal = _decode(answer, Principal)
        self._cache.put_principal(token, principal, kicks=kicks)
        return principal

    async def authorize_tunnel(self, principal: Principal, project: str, *, create: bool) -> str:
        """Return the project's id if the principal may. Raises AuthDenied, ValueError and Unavailable."""
        known = self._cache.authorized(principal, project)
        if known is not None:
            return known
        kicks = self._cache.kicks
        body = messages.AuthorizeRequest(principal=principal, project=project, create=create)
        try:
            answer = await self._connection.post(messages.AUTHORIZE_TUNNEL, body)
        except Unavailable:
            known = self._cache.authorized(principal, project, outage=True)
            if known is None:
                raise
            return known
        project_id = _decode(answer, messages.AuthorizeAnswer).project_id
        self._cache.put_authorized(principal, project, project_id, kicks=kicks)
        return project_id

    async def authorize_project(self, principal: Principal, project: str | None, scope: ProjectScope) -> str:
        """Return the project's id if the principal may do this in it. Raises AuthDenied and Unavailable.

        Never remembered: what a right opens here is other people's data.
        """
        body = messages.AuthorizeProjectRequest(principal=principal, project=project, scope=scope)
        answer = await self._connection.post(messages.AUTHORIZE_PROJECT, body)
        return _decode(answer, messages.AuthorizeAnswer).project_id

    async def authorize_admin(
        self, principal: Principal, action: str, target: str = "", *, change: bool = False
    ) -> None:
        """Return if the principal may operate the service. Raises AuthDenied and Unavailable."""
        body = messages.AuthorizeAdminRequest(
            principal=principal, action=action, target=target, change=change
        )
        await self._connection.post(messages.AUTHORIZE_ADMIN, body)

    async def projects_of(self, principal: Principal) -> dict[str, str] | None:
        """Return the ids, by name, of the projects that the principal may see; None means all of them."""
        body = messages.ProjectsRequest(principal=principal)
        answer = await self._connection.post(messages.PROJECTS, body)
        return _decode(answer, messages.ProjectsAnswer).projects

    async def mint_tunnel_token(self, principal: Principal, project: Project, relay_id: str) -> TunnelToken:
        """Return a token for one tunnel. Raises AuthDenied and Unavailable."""
        body = messages.MintRequest(principal=principal, project=project, relay_id=relay_id)
        return _decode(await self._connection.post(messages.TUNNEL_TOKENS, body), TunnelToken)

    async def jwks(self) -> dict[str, Any]:
        """Return the public keys that verify tunnel tokens. Raises Unavailable."""
        return _decode(await self._connection.get(messages.JWKS), dict[str, Any])

    async def follow_kicks(
        self, bus: Bus, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Forget, for ever, what is no longer true; started after the first attempt to follow the bus."""
        while True:
            try:
                async with bus.subscribe(TOPIC_KICK) as subscription:
                    self._cache.clear()
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await self._forget(subscription)
            except Unavailable as error:
                _log.warning("cannot follow what auth withdraws", error=str(error))
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            await trio.sleep(_RETRY)

    async def _forget(self, subscription: Subscription) -> None:
        while True:
            try:
                async for _, message in subscription:
                    kick = decode_kick(message)
                    if kick is not None:
                        self._cache.forget(kick)
                    else:  # of a newer auth: whatever it means, nothing remembered is sure any more
                        self._cache.clear()
            except BusGap:
                self._cache.clear()
                await trio.lowlevel.checkpoint()


def _decode(answer: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"the auth service answers with something else than it should: {error}") from None


@asynccontextmanager
async def open_http_auth(
    url: str, service_key: str, bus: Bus, *, ca_file: Path | None = None, deadline: float = DEADLINE
) -> AsyncGenerator[HttpAuth, None]:
    """Open the Auth port at ``url``; ``bus`` tells what auth withdraws. Raises as `open_connection`."""
    async with (
        open_connection(url, service_key, ca_file=ca_file, deadline=deadline) as connection,
        trio.open_nursery() as nursery,
    ):
        auth = HttpAuth(connection)
        await nursery.start(auth.follow_kicks, bus, name="withdrawn rights")
        yield auth
        nursery.cancel_scope.cancel(reason="the auth client is closed")
