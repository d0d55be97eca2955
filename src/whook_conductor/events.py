"""What the events API decides: who may see which events, and where their bodies are.

Called by `events_api`, which only gives it the shape of HTTP. Rights are auth's to judge. Events belong to
the project's id, not to its name: what was stored for an earlier project of the name is never found here.
Every refusal is a `ProblemError` with a stable kind.
"""

from __future__ import annotations

from dataclasses import dataclass

from whook.backplane.ports import (
    Auth,
    AuthDenied,
    Backlog,
    Blobs,
    EventDetail,
    EventPlace,
    EventQuery,
    EventSummary,
    Found,
    History,
    Principal,
    Project,
    Projects,
    ProjectScope,
    Queue,
    StoredEvent,
)
from whook.chassis.ids import is_id
from whook.chassis.problem import ProblemError
from whook_conductor.followers import Followers, TooManyFollowersError
from whook_conductor.raw_event import raw_message
from whook_conductor.refusals import authenticate, busy, refusals, unknown_project


@dataclass(frozen=True, slots=True)
class Followed:
    """What a follower gets: events, and where to go on."""

    events: list[EventSummary]
    next: int


class Events:
    """The events of all projects, as their people see them."""

    def __init__(
        self,
        *,
        auth: Auth,
        projects: Projects,
        history: History,
        blobs: Blobs | None,
        queue: Queue | None,
        followers: Followers,
    ) -> None:
        """`blobs` has the large bodies; `queue` what waits. Without them there is neither."""
        self._auth = auth
        self._projects = projects
        self._history = history
        self._blobs = blobs
        self._queue = queue
        self._followers = followers

    async def project(self, token: str, name: str, scope: ProjectScope) -> Project:
        """Return the project in which the token may do this. Raises `ProblemError`: 404 for another's."""
        with refusals():
            principal = await authenticate(self._auth, token)
            project_id = await self._auth.authorize_project(principal, name, scope)
            project = await self._projects.get(name)
        if project is None or project.id != project_id:  # else it is an earlier owner's
            raise unknown_project()
        return project

    async def find(self, token: str, name: str, query: EventQuery) -> Found:
        """Return matching events of a project. Raises `ProblemError`."""
        project = await self.project(token, name, "events:read")
        _check_id(query.after)
        with refusals():
            return await self._history.find(project.id, query)

    async def get(self, token: str, name: str, event_id: str) -> EventDetail:
        """Return one event of a project. Raises `ProblemError`."""
        project = await self.project(token, name, "events:read")
        return await self.load(project, event_id)

    async def search(self, token: str, event_id: str) -> EventDetail:
        """Return an event of whichever project that the token may see. Raises `ProblemError`."""
        with refusals():
            principal = await authenticate(self._auth, token)
            await self._auth.authorize_project(principal, None, "events:read")
            place = await self._history.locate(event_id) if is_id(event_id, "evt") else None
            if place is None or not await self._may_read(principal, place):
                raise _unknown_event()
            detail = await self._history.get(place.project_id, event_id)
            if detail is None:  # deleted meanwhile
                raise _unknown_event()
            return detail

    async def _may_read(self, principal: Principal, place: EventPlace) -> bool:
        """Tell whether an event is of a project that the token may read.

        Asked by the name that its project had: what auth knows under it now must be the same project.
        """
        try:
            project_id = await self._auth.authorize_project(principal, place.project, "events:read")
        except AuthDenied as denied:
            if denied.reason in ("hidden", "forbidden"):
                return False
            raise
        return project_id == place.project_id

    async def load(self, project: Project, event_id: str) -> EventDetail:
        """Return one event of a project that the caller may see. Raises `ProblemError`."""
        _check_id(event_id)
        with refusals():
            found = await self._history.get(project.id, event_id)
        if found is None:
            raise _unknown_event()
        return found

    async def body(self, event: StoredEvent) -> bytes | None:
        """Return an event's body, from wherever it is; None if it was not kept. Raises `ProblemError`."""
        if event.body is not None or not event.body_size:
            return event.body or b""
        if self._blobs is None:
            return None
        with refusals():
            return await self._blobs.get(event.id)

    async def kept_body(self, token: str, name: str, event_id: str) -> tuple[StoredEvent, bytes]:
        """Return an event with its body. Raises `ProblemError`: 410 if that was not kept."""
        event = (await self.get(token, name, event_id)).event
        body = await self.body(event)
        if body is None:
            detail = "The body of this event was not kept: it was too large, or never came whole."
            raise ProblemError(410, "body-not-kept", "Body not kept", detail)
        return event, body

    async def raw(self, token: str, name: str, event_id: str) -> list[bytes]:
        """Return an event as an HTTP/1.1 message, in pieces. Raises `ProblemError`."""
        event, body = await self.kept_body(token, name, event_id)
        return raw_message(event, body)

    async def follow(
        self, token: str, name: str, *, after: int | None, limit: int, wait: float, filters: EventQuery
    ) -> Followed:
        """Wait for events behind a sequence; without one, return where to begin. Raises `ProblemError`.

        Of what came only what passes `filters` is returned; `next` is behind all of it.
        """
        project = await self.project(token, name, "events:read")
        with refusals():
            if after is None:
                return Followed([], await self._followers.newest(project.id))
            try:
                found = await self._followers.wait(project.id, after, limit, wait)
            except TooManyFollowersError:
                raise busy("overloaded", "Overloaded", "Too many wait for events already.") from None
            passed = [one for one in found if await self._passes(project, one, filters)]
        return Followed(passed, found[-1].sequence if found else after)

    async def _passes(self, project: Project, summary: EventSummary, filters: EventQuery) -> bool:
        if filters.states and summary.state not in filters.states:
            return False
        if filters.failed and not has_failed(summary):
            return False
        if not filters.grep:
            return True
        detail = await self._history.get(project.id, summary.id)
        return detail is not None and contains(detail.event, filters.grep)

    async def backlog(self, token: str, name: str) -> Backlog:
        """Return what of a project waits. Raises `ProblemError`."""
        project = await self.project(token, name, "events:read")
        if self._queue is None:
            raise no_queue()
        with refusals():
            return await self._queue.backlog(project.id)


def has_failed(summary: EventSummary) -> bool:
    """Say what `EventQuery.failed` says: dead, or the last delivery got no response below 400."""
    if summary.state == "dead":
        return True
    bad = summary.last_problem != "" or summary.last_status == 0 or summary.last_status >= 400
    return summary.deliveries > 0 and bad


def contains(event: StoredEvent, text: str) -> bool:
    """Say what `EventQuery.grep` says."""
    wanted = text.encode().lower()
    pieces = [event.method, event.target, event.body or b""]
    pieces += [name + b": " + value for name, value in event.headers]
    return any(wanted in piece.lower() for piece in pieces)


def no_queue() -> ProblemError:
    """Return the answer of a server that has no queue."""
    return ProblemError(409, "no-queue", "No queue", "This server stores no webhooks for later.")


def _check_id(event_id: str) -> None:
    if event_id and not is_id(event_id, "evt"):
        raise _unknown_event()


def _unknown_event() -> ProblemError:
    return ProblemError(404, "unknown-event", "Unknown event", "You have no event of this id.")
