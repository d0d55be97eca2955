"""What `whook events` asks of the server's API, and how its refusals end the command.

Called by the modules of these commands. Owns the records that come back. Must never print anything.
"""

import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from whook_cli.api import Calls, Reply, Unavailable, open_calls
from whook_cli.exits import Exit, ExitCode
from whook_cli.replies import check, decode

PAGE: Final = 200
"""Events asked for at once."""
WAIT: Final = 20.0
"""Seconds that the server may let a follower wait."""
PATIENCE: Final = 60.0
"""Seconds for the answer to what takes long: a wait, a large body, a thousand replays."""

Pairs = list[tuple[str, str]]
_THINGS: Final = frozenset({"unknown-project", "unknown-event"})

T = TypeVar("T")


class Event(msgspec.Struct):
    """One line of a list of events."""

    id: str
    sequence: int
    project: str
    received_at: datetime
    method: str
    target: str
    peer: str
    body_size: int
    state: str
    deliveries: int
    last_status: int | None
    last_problem: str | None
    last_duration: float | None


class Content(msgspec.Struct):
    """A body."""

    size: int
    encoding: str | None
    content: str | None

    def data(self) -> bytes | None:
        """Give its bytes; None where they are not part of the answer."""
        if self.content is None:
            return None
        return base64.b64decode(self.content) if self.encoding == "base64" else self.content.encode()


class Received(msgspec.Struct):
    """A request as it was received."""

    version: str
    scheme: str
    headers: Pairs
    body: Content
    trailers: Pairs


class Answered(msgspec.Struct):
    """What the local server answered."""

    status: int
    reason: str
    headers: Pairs
    body: Content
    trailers: Pairs


class Delivery(msgspec.Struct):
    """One attempt to hand an event over; durations in seconds."""

    attempt: int
    origin: str
    began_at: datetime
    to_head: float | None
    duration: float
    status: int | None
    problem: str | None
    response: Answered | None


class EventDetail(Event):
    """An event and all that was tried."""

    request: Received
    history: list[Delivery]


class Skipped(msgspec.Struct):
    """An event that was not queued."""

    event: str
    reason: str


class Replayed(msgspec.Struct):
    """What became of a request for replays."""

    queued: list[str]
    skipped: list[Skipped]
    stopped: str | None
    next: str | None


class Page(msgspec.Struct):
    """Events, and where to go on."""

    events: list[Event]
    next: str | None


class Followed(msgspec.Struct):
    """What a follower gets."""

    events: list[Event]
    next: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which events are wanted."""

    since: datetime | None = None
    until: datetime | None = None
    states: Sequence[str] = field(default=())
    failed: bool = False
    grep: str = ""

    @property
    def any(self) -> bool:
        """Whether there is any condition at all."""
        return bool(self.since or self.until or self.states or self.failed or self.grep)

    def query(self) -> list[tuple[str, str]]:
        """Give them as the parameters of a URL."""
        found = [("state", state) for state in self.states]
        if self.failed:
            found.append(("failed", "true"))
        if self.grep:
            found.append(("grep", self.grep))
        for name, at in (("since", self.since), ("until", self.until)):
            if at is not None:
                found.append((name, at.isoformat()))
        return found

    def body(self) -> dict[str, object]:
        """Give them as JSON."""
        wanted: dict[str, object] = {"state": list(self.states), "failed": self.failed, "grep": self.grep}
        for name, at in (("since", self.since), ("until", self.until)):
            if at is not None:
                wanted[name] = at.isoformat()
        return wanted


@dataclass(frozen=True, slots=True)
class EventsApi:
    """The events of a server, asked for with one token. All raise `Exit`."""

    server: str
    token: str
    calls: Calls

    def __repr__(self) -> str:
        return f"<EventsApi {self.server}>"

    def find(
        self, project: str, filters: Filters, *, limit: int | None = None, oldest_first: bool = False
    ) -> "Pages":
        """Give matching events page by page, at most `limit`."""
        return Pages(self, project, filters, limit, oldest_first=oldest_first)

    async def page(self, project: str, params: list[tuple[str, str]]) -> "Page":
        """Give one page of events."""
        return _read(await self._get(f"{_project(project)}/events", params), Page)

    async def get(self, event_id: str) -> EventDetail:
        """Give one event with its deliveries, of whichever project it is."""
        return _read(await self._get(f"events/{quote(event_id, safe='')}"), EventDetail)

    async def raw(self, project: str, event_id: str) -> bytes:
        """Give an event as the HTTP/1.1 message that it was."""
        return await self._bytes(project, event_id, "raw")

    async def body(self, project: str, event_id: str) -> bytes:
        """Give an event's body."""
        return await self._bytes(project, event_id, "body")

    async def follow(self, project: str, after: int | None, filters: Filters) -> Followed:
        """Wait for new events. Raises `Unavailable` too: it may be tried again."""
        params = filters.query()
        if after is not None:
            params += [("after", str(after)), ("wait", f"{WAIT:g}")]
        url = f"{self.server}/v1/{_project(project)}/events/follow"
        reply = await self.calls.call("GET", url, token=self.token, params=params, seconds=PATIENCE)
        _check(reply)
        return _read(reply, Followed)

    async def replay(self, project: str, wanted: dict[str, object]) -> Replayed:
        """Ask for events to be delivered again."""
        return _read(await self._ask("POST", f"{_project(project)}/replays", body=wanted), Replayed)

    async def _bytes(self, project: str, event_id: str, what: str) -> bytes:
        path = f"{_project(project)}/events/{quote(event_id, safe='')}/{what}"
        reply = await self._get(path)
        _check(reply)
        return reply.body

    async def _get(self, path: str, params: list[tuple[str, str]] | None = None) -> Reply:
        return await self._ask("GET", path, params=params)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: list[tuple[str, str]] | None = None,
        body: dict[str, object] | None = None,
    ) -> Reply:
        url = f"{self.server}/v1/{path}"
        try:
            return await self.calls.call(
                method, url, token=self.token, params=params, body=body, seconds=PATIENCE
            )
        except Unavailable as error:
            raise Exit(ExitCode.UNREACHABLE, str(error)) from None


class Pages:
    """The pages of a list of events, asked for as they are iterated over."""

    def __init__(
        self, api: EventsApi, project: str, filters: Filters, limit: int | None, *, oldest_first: bool
    ) -> None:
        self._api = api
        self._project = project
        self._filters = filters
        self._left = limit
        self._order = [("order", "oldest")] if oldest_first else []
        self._after: str | None = ""

    def __aiter__(self) -> "Pages":
        return self

    async def __anext__(self) -> list[Event]:
        """Give the next page. Raises `Exit`."""
        if self._after is None or (self._left is not None and self._left <= 0):
            raise StopAsyncIteration
        size = PAGE if self._left is None else min(self._left, PAGE)
        params = [*self._filters.query(), *self._order, ("limit", str(size))]
        if self._after:
            params.append(("after", self._after))
        page = await self._api.page(self._project, params)
        self._after = page.next
        if self._left is not None:
            self._left -= len(page.events)
        return page.events


@asynccontextmanager
async def open_events_api(server: str, token: str) -> AsyncGenerator[EventsApi]:
    """Ask `server` with `token` while the block runs."""
    async with open_calls(server) as calls:
        yield EventsApi(server, token, calls)


def _project(name: str) -> str:
    return f"projects/{quote(name, safe='')}"


def _check(reply: Reply) -> None:
    check(reply, things=_THINGS, no_api="keeps no history")


def _read(reply: Reply, kind: type[T]) -> T:
    _check(reply)
    return decode(reply, kind)
