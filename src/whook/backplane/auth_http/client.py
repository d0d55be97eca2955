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

    async def authorize_tunnel(self, principal: Principal, project: str, *, create: bool) -> None:
        """Return if the principal may open a tunnel. Raises AuthDenied, ValueError and Unavailable."""
        if self._cache.authorized(principal, project):
            return
        kicks = self._cache.kicks
        body = messages.AuthorizeRequest(principal=principal, project=project, create=create)
        try:
            await self._connection.post(messages.AUTHORIZE_TUNNEL, body)
        except Unavailable:
            if not self._cache.authorized(principal, project, outage=True):
                raise
        else:
            self._cache.put_authorized(principal, project, kicks=kicks)

    async def authorize_project(self, principal: Principal, project: str | None, scope: ProjectScope) -> None:
        """Return if the principal may do this in the project. Raises AuthDenied and Unavailable.

        Never remembered: what a right opens here is other people's data.
        """
        body = messages.AuthorizeProjectRequest(principal=principal, project=project, scope=scope)
        await self._connection.post(messages.AUTHORIZE_PROJECT, body)

    async def projects_of(self, principal: Principal) -> frozenset[str] | None:
        """Return the names of the projects that the principal may see; None means all of them."""
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
                    self._cache.forget(decode_kick(message))
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
