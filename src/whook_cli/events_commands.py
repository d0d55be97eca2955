"""`whook events list`, `show`, `export` and `tail`: what they ask for and print.

Called by `events_app`. Must print nothing that a sender wrote but through `events_show`, `events_output` and
`events_export`.
"""

import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import trio

from whook_cli.about import complain
from whook_cli.api import Unavailable, check_server, check_token
from whook_cli.backoff import Backoff
from whook_cli.credentials import stored_token
from whook_cli.display import wants_colour
from whook_cli.events_api import Event, EventsApi, Filters, open_events_api
from whook_cli.events_export import Exported, as_curl, as_har, as_raw
from whook_cli.events_output import readers_may_leave, write_bytes, write_lines
from whook_cli.events_show import Look, event_line
from whook_cli.events_time import parse_time
from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.options import AccountOptions
from whook_cli.stop import open_stop
from whook_cli.target import Target, parse_target

DEFAULT_TO: Final = "http://localhost:3000"

T = TypeVar("T")


def make_filters(
    since: str | None = None, until: str | None = None, status: str | None = None, grep: str = ""
) -> Filters:
    """Read the options that choose events. Raises `UsageError`."""
    now = datetime.now().astimezone()
    if len(grep) > 200:
        raise UsageError("--grep takes at most 200 characters")
    return Filters(
        since=parse_time(since, "--since", now) if since else None,
        until=parse_time(until, "--until", now) if until else None,
        states=(status,) if status and status != "failed" else (),
        failed=status == "failed",
        grep=grep,
    )


def need_project(project: str | None, command: str) -> str:
    """Give the project, or say how to name it. Raises `UsageError`."""
    if not project:
        raise UsageError("which project?", hint=f'whook events {command}, or project = "..." in whook.toml')
    return project


def ask(account: AccountOptions, question: Callable[[EventsApi], Awaitable[T]]) -> T:
    """Run one conversation with the API. Raises `Exit`."""
    server = check_server(account.server)
    token = check_token(account.token or stored_token(server), server)

    async def main() -> T:
        async with open_events_api(server, token) as api:
            return await question(api)

    try:
        return trio.run(main)
    except ExceptionGroup as group:
        error: Exception = group
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, Exit):
            raise Exit(error.code, error.message, hint=error.hint) from group
        raise


def run_list(account: AccountOptions, project: str, filters: Filters, limit: int, *, as_json: bool) -> None:
    """Print events, the newest first. Raises `Exit`."""
    if limit < 1:
        raise UsageError(f"--limit {limit}: at least 1")
    give = line_of(as_json=as_json)

    async def show(api: EventsApi) -> None:
        async for page in api.find(project, filters, limit=limit):
            write_lines([give(event) for event in page])

    with readers_may_leave():
        ask(account, show)


def run_show(account: AccountOptions, event_id: str, *, raw: bool, body: bool) -> None:
    """Print one event. Raises `Exit`."""
    if raw and body:
        raise UsageError("--raw and --body exclude each other")

    async def show(api: EventsApi) -> None:
        event = await api.get(event_id)
        if raw:
            write_bytes(await api.raw(event.project, event.id))
        elif body:
            write_bytes(await api.body(event.project, event.id))
        else:
            write_lines([Look(colour=wants_colour(sys.stdout)).block(event)])

    with readers_may_leave():
        ask(account, show)


def run_export(
    account: AccountOptions, event_ids: Sequence[str], form: str, output: Path | None, to: str | None
) -> None:
    """Print events in a form that other tools read. Raises `Exit`."""
    if not event_ids:
        raise UsageError("which events?", hint="whook events export EVENT... --format curl|har|raw")
    target: Target = parse_target(to or DEFAULT_TO)

    async def fetch(api: EventsApi) -> list[Exported]:
        found = []
        for event_id in event_ids:
            try:
                event = await api.get(event_id)
                found.append(Exported(event, await api.raw(event.project, event.id)))
            except Exit as error:
                raise Exit(error.code, f"{event_id}: {error.message}", hint=error.hint) from None
        return found

    with readers_may_leave():
        events = ask(account, fetch)
        match form:
            case "raw":
                write_bytes(as_raw(events), output)
            case "curl":
                write_bytes(as_curl(events, target), output)
            case _:
                write_bytes(as_har(events), output)


def run_tail(account: AccountOptions, project: str, filters: Filters, *, as_json: bool) -> None:
    """Print events as they are recorded, until it is stopped. Raises `Exit`."""
    give = line_of(as_json=as_json)

    async def follow(api: EventsApi) -> None:
        after: int | None = None
        backoff = Backoff()
        while True:
            try:
                got = await api.follow(project, after, filters)
            except Unavailable as outage:
                if after is None and not outage.answered:
                    hint = "is it running? --server says where"
                    raise Exit(ExitCode.UNREACHABLE, str(outage), hint=hint) from None
                complain(f"{outage}; trying again")
                await trio.sleep(backoff.delay(outage.retry_after))
                continue
            backoff = Backoff()
            if after is None:
                complain(f"waiting for events of {project}")
            after = got.next
            await trio.to_thread.run_sync(
                write_lines, [give(event) for event in got.events], abandon_on_cancel=True
            )

    async def until_stopped(api: EventsApi) -> None:
        async with open_stop() as stop, trio.open_nursery() as nursery:
            nursery.start_soon(follow, api)
            await stop.wait()
            nursery.cancel_scope.cancel(reason="stopped")

    with readers_may_leave():
        ask(account, until_stopped)


def line_of(*, as_json: bool) -> Callable[[Event], str]:
    """Give what turns an event into its line on standard output."""
    return event_line if as_json else Look(colour=wants_colour(sys.stdout)).line
