"""The events API as HTTP: `/v1/projects/NAME/events…`, `/v1/events/ID`, replays and the backlog.

Built by the service and mounted by `api`. Shape only: what is decided is in `events` and `replays`. Bodies of
webhooks leave here as somebody else wrote them, so nothing is sent in a way that a browser would show as a
page.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AwareDatetime
from starlette.types import Receive, Scope, Send

from whook.backplane.ports import EventQuery, State
from whook.chassis.api import problem_responses
from whook_conductor.bearer import Token
from whook_conductor.events import Events
from whook_conductor.events_models import (
    BacklogAnswer,
    EventAnswer,
    EventDetailAnswer,
    EventId,
    EventList,
    FollowAnswer,
    Grep,
    ReplayAnswer,
    ReplayWanted,
    detail_answer,
)
from whook_conductor.raw_event import MEDIA_TYPE
from whook_conductor.replays import Replays

MAX_LIMIT: Final = 200
MAX_WAIT: Final = 30.0
"""Seconds that a follower may wait: less than most proxies do."""
_PIECE: Final = 65_536
_AS_A_FILE: Final = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}

Name = Annotated[str, Path(max_length=63, pattern="^[a-z0-9-]+$", description="The project's name.")]
Event = Annotated[str, Path(max_length=64, description="The event's id: `evt_…`.")]


class Pieces(Response):
    """A body that is sent piece by piece, so that a client need only take one piece within the time limit."""

    def __init__(self, pieces: Iterable[bytes], media_type: str) -> None:
        """`pieces` is the whole body."""
        self._whole = b"".join(pieces)
        headers = {**_AS_A_FILE, "content-length": str(len(self._whole))}
        super().__init__(None, headers=headers, media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it (ASGI calls this)."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        whole = memoryview(self._whole)
        for at in range(0, len(whole), _PIECE):
            piece = bytes(whole[at : at + _PIECE])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _filters(
    state: Annotated[list[State] | None, Query(max_length=4, description="Any of these states.")] = None,
    failed: Annotated[
        bool, Query(description="Only those that are dead, or whose last delivery had no response below 400.")
    ] = False,
    grep: Annotated[
        Grep, Query(description="Text in the method, the target, a header or the body; ASCII in any case.")
    ] = "",
) -> EventQuery:
    return EventQuery(states=tuple(state or ()), failed=failed, grep=grep)


Filters = Annotated[EventQuery, Depends(_filters)]


def _query(
    filters: Filters,
    since: Annotated[AwareDatetime | None, Query(description="Received at or after.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Received before.")] = None,
    after: Annotated[EventId | None, Query(description="`next` of the page before.")] = None,
    order: Annotated[Literal["newest", "oldest"], Query(description="What comes first.")] = "newest",
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
) -> EventQuery:
    return EventQuery(
        since=since.timestamp() if since is not None else None,
        until=until.timestamp() if until is not None else None,
        states=filters.states,
        failed=filters.failed,
        grep=filters.grep,
        after=after or "",
        oldest_first=order == "oldest",
        limit=limit,
    )


def _file(media_type: str) -> dict[int | str, dict[str, Any]]:
    schema = {"type": "string", "format": "binary"}
    return {200: {"description": "As it was received.", "content": {media_type: {"schema": schema}}}}


def events_router(events: Events, replays: Replays) -> APIRouter:
    """Return the operations on events."""
    router = APIRouter(prefix="/v1", tags=["events"])
    project = "/projects/{name}"
    one = f"{project}/events/{{event}}"
    problems = problem_responses(401, 403, 404, 422, 503)

    @router.get(f"{project}/events", responses=problems)
    async def list_events(
        name: Name, token: Token, query: Annotated[EventQuery, Depends(_query)]
    ) -> EventList:
        """List the events of a project, the newest first."""
        found = await events.find(token, name, query)
        # A search that cost too much ends early, and says where to go on.
        following = found.scanned_to or (found[-1].id if len(found) == query.limit else None)
        return EventList(events=[EventAnswer.of(summary) for summary in found], next=following)

    @router.get(f"{project}/events/follow", responses=problems)
    async def follow_events(
        name: Name,
        token: Token,
        filters: Filters,
        after: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="A sequence.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT, description="Seconds, at most.")] = 20.0,
    ) -> FollowAnswer:
        """Wait for events that are new. Without `after` it answers at once with where to begin."""
        got = await events.follow(token, name, after=after, limit=limit, wait=wait, filters=filters)
        return FollowAnswer(events=[EventAnswer.of(summary) for summary in got.events], next=got.next)

    @router.get(one, responses=problems)
    async def get_event(name: Name, event: Event, token: Token) -> EventDetailAnswer:
        """Show an event: the request, and every delivery with its response."""
        return detail_answer(await events.get(token, name, event))

    @router.get("/events/{event}", responses=problems)
    async def find_event(event: Event, token: Token) -> EventDetailAnswer:
        """Show an event of whichever of your projects it is."""
        return detail_answer(await events.search(token, event))

    @router.get(
        f"{one}/raw", responses={**problem_responses(410), **problems, **_file(MEDIA_TYPE)},
        response_class=Response,
    )  # fmt: skip
    async def get_raw_event(name: Name, event: Event, token: Token) -> Response:
        """Give the request as the HTTP/1.1 message that came, byte for byte; a chunked body as one chunk."""
        return Pieces(await events.raw(token, name, event), MEDIA_TYPE)

    @router.get(
        f"{one}/body",
        responses={**problem_responses(410), **problems, **_file("application/octet-stream")},
        response_class=Response,
    )
    async def get_event_body(name: Name, event: Event, token: Token) -> Response:
        """Give the request's body, byte for byte."""
        _, body = await events.kept_body(token, name, event)
        return Pieces([body], "application/octet-stream")

    @router.post(f"{project}/replays", status_code=202, responses={**problem_responses(409), **problems})
    async def replay(name: Name, wanted: ReplayWanted, token: Token) -> ReplayAnswer:
        """Deliver events again, in order, as the first deliveries were made: up to 1,000 for each call."""
        if wanted.events is not None:
            return ReplayAnswer.of(await replays.replay_events(token, name, wanted.events))
        query = EventQuery(
            since=wanted.since.timestamp() if wanted.since is not None else None,
            until=wanted.until.timestamp() if wanted.until is not None else None,
            states=tuple(wanted.state),
            failed=wanted.failed,
            grep=wanted.grep,
            after=wanted.after or "",
        )
        return ReplayAnswer.of(await replays.replay_range(token, name, query))

    @router.get(f"{project}/backlog", responses={**problem_responses(409), **problems})
    async def get_backlog(name: Name, token: Token) -> BacklogAnswer:
        """Say what of a project waits to be delivered."""
        return BacklogAnswer.of(await events.backlog(token, name))

    return router
