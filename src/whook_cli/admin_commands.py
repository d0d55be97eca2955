"""`whook admin …`: what the commands for operators ask for and print.

Called by `admin_app`. Each is one short conversation with the conductor's API, but for `drain`, which looks
again until the relay has heard and, if asked to, until it is empty.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar

import msgspec
import trio

from whook_cli.about import complain, say
from whook_cli.admin_api import AdminApi, Backlog, Project, Queue, Relay, Tunnel
from whook_cli.api import check_server, check_token, open_calls
from whook_cli.credentials import stored_token
from whook_cli.events_output import readers_may_leave, write_lines
from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.options import AccountOptions
from whook_cli.table import age, table
from whook_cli.text import printable, size

HEARD_WITHIN: Final = 15.0
"""Seconds in which a relay must have heard: it renews its lease every 5 s, whatever the bus does."""
_LOOK: Final = 1.0
"""Seconds between two looks at a relay."""

T = TypeVar("T")


def run_relays(account: AccountOptions, *, as_json: bool) -> None:
    """Print the relays. Raises `Exit`."""
    found = _ask(account, lambda api: api.relays())
    if as_json:
        _json(found)
        return
    head = ("RELAY", "STATE", "TUNNELS", "CAPACITY", "PROJECTS", "LEASE", "VERSION", "URL")
    _table(head, [_relay_row(one) for one in found], right=("TUNNELS", "CAPACITY", "PROJECTS", "LEASE"))


def run_tunnels(
    account: AccountOptions, project: str | None, relay: str | None, limit: int, *, as_json: bool
) -> None:
    """Print tunnels by project. Raises `Exit`."""
    _check_limit(limit)

    async def collect(api: AdminApi) -> tuple[list[Tunnel], bool, bool]:
        found: list[Tunnel] = []
        after = ""
        while True:
            page = await api.tunnels(project, relay, after, limit - len(found))
            found += page.tunnels
            if page.next is None or len(found) >= limit:
                return found, page.next is not None, page.complete
            after = page.next

    found, more, complete = _ask(account, collect)
    if as_json:
        _json(found)
    else:
        rows = [(one.project, one.id, one.relay, one.holder) for one in found]
        _table(("PROJECT", "TUNNEL", "RELAY", "HOLDER"), rows)
    if more:
        complain(f"these are the first {len(found)}: --limit gives more")
    if not complete:
        complain("the server is reading its routes anew: some may be missing")


def run_projects(account: AccountOptions, limit: int, *, as_json: bool) -> None:
    """Print all projects by name. Raises `Exit`."""
    _check_limit(limit)

    async def collect(api: AdminApi) -> tuple[list[Project], bool]:
        found: list[Project] = []
        after = ""
        while True:
            page = await api.projects(after, limit - len(found))
            found += page.projects
            if page.next is None or len(found) >= limit:
                return found, page.next is not None
            after = page.next

    found, more = _ask(account, collect)
    if as_json:
        _json(found)
    else:
        head = ("PROJECT", "ID", "RELAY", "HOLDER", "WAITING", "SIZE", "OLDEST")
        _table(head, [_project_row(one) for one in found], right=("WAITING", "SIZE", "OLDEST"))
        if any(one.backlog is None for one in found):
            complain("the queue does not answer: what waits is not known")
    if more:
        complain(f"these are the first {len(found)}: --limit gives more")


def run_queue(account: AccountOptions, limit: int, *, as_json: bool) -> None:
    """Print what waits, in all and by project. Raises `Exit`."""
    _check_limit(limit)
    found: Queue = _ask(account, lambda api: api.queue(min(limit, 1_000)))
    if as_json:
        _json([found])
        return
    rows = [
        (one.project or f"({one.project_id}, deleted)", *_backlog(one.backlog), _number(one.dead))
        for one in found.projects
    ]
    total = ("in all", *_backlog(found.total), _number(found.dead))
    head = ("PROJECT", "WAITING", "SIZE", "OLDEST", "DEAD")
    _table(head, [*rows, total], right=head[1:])
    if found.left_out:
        complain(f"{found.left_out} more projects: --limit gives more")
    if found.dead is None:
        complain("the history does not answer: dead letters are not known")


def run_kick(account: AccountOptions, tunnel: str, *, as_json: bool) -> None:
    """Have a tunnel closed. Raises `Exit`."""
    kicked = _ask(account, lambda api: api.kick(tunnel))
    if as_json:
        _json([kicked])
    else:
        say(f"Kicked {printable(kicked.holder)}, who held {kicked.project} on {kicked.relay}.")


def run_drain(
    account: AccountOptions, relay: str, *, undo: bool, wait: bool, timeout: float | None, as_json: bool
) -> None:
    """Take a relay out of service or put it back, and wait as asked. Raises `Exit`."""
    if undo and wait:
        raise UsageError("--undo and --wait exclude each other: what is put back need not be waited for")
    if timeout is not None and not wait:
        raise UsageError("--timeout is for --wait")

    async def tell(api: AdminApi) -> Relay | None:
        await api.drain(relay, undo=undo)
        found: Relay | None = None
        with trio.move_on_after(HEARD_WITHIN):
            while True:
                found = await _look(api, relay)
                if found is None or found.draining is not undo:
                    break
                await trio.sleep(_LOOK)
        if found is not None and found.draining is undo:
            detail = "it is told again when it is back on the bus, within an hour"
            raise Exit(ExitCode.INCOMPLETE, f"{relay} has not heard", hint=detail)
        if wait and found is not None and found.load:
            found = await _until_empty(api, found, timeout)
        return found

    last = _ask(account, tell)
    if as_json:
        _json([last] if last is not None else [])
    elif last is None:
        say(f"{relay} has ended.")
    elif undo:
        say(f"{relay} takes tunnels again.")
    elif last.load:
        say(f"{relay} takes no new tunnels; {_tunnels(last.load)} to leave.")
    else:
        say(f"{relay} takes no new tunnels and is empty.")


async def _until_empty(api: AdminApi, found: Relay, seconds: float | None) -> Relay | None:
    told = -1
    left: Relay | None = found
    with trio.move_on_after(float("inf") if seconds is None else seconds):
        while left is not None and left.load:
            if left.load != told:
                told = left.load
                complain(f"{found.id}: {_tunnels(told)} to leave")
            await trio.sleep(_LOOK)
            left = await _look(api, found.id)
    if left is not None and left.load:
        raise Exit(ExitCode.INCOMPLETE, f"{found.id} still has {_tunnels(left.load)}")
    return left


async def _look(api: AdminApi, relay: str) -> Relay | None:
    return next((one for one in await api.relays() if one.id == relay), None)


def _ask(account: AccountOptions, question: Callable[[AdminApi], Awaitable[T]]) -> T:
    """Run one conversation with the API. Raises `Exit`."""
    server = check_server(account.server)
    token = check_token(account.token or stored_token(server), server)

    async def main() -> T:
        async with open_calls(server) as calls:
            return await question(AdminApi(server, token, calls))

    return trio.run(main)


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise UsageError(f"--limit {limit}: at least 1")


def _json(found: Sequence[msgspec.Struct]) -> None:
    with readers_may_leave():
        write_lines([msgspec.json.encode(one).decode() for one in found])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    with readers_may_leave():
        write_lines(list(table(head, rows, right=right)))


def _relay_row(one: Relay) -> tuple[str, ...]:
    return (
        one.id,
        "draining" if one.draining else "full" if one.load >= one.capacity else "open",
        str(one.load),
        str(one.capacity),
        str(one.routes),
        f"{one.lease_left:.1f}s left",
        one.version,
        one.tunnel_url,
    )


def _project_row(one: Project) -> tuple[str, ...]:
    held = (one.tunnel.relay, one.tunnel.holder) if one.tunnel is not None else ("-", "-")
    waits = _backlog(one.backlog) if one.backlog is not None else ("?", "?", "?")
    return (one.name, one.id, *held, *waits)


def _backlog(backlog: Backlog) -> tuple[str, str, str]:
    return (str(backlog.count), size(backlog.bytes) if backlog.count else "-", _age(backlog.oldest_at))


def _age(at: datetime | None) -> str:
    return "-" if at is None else age(time.time() - at.timestamp())


def _number(count: int | None) -> str:
    return "?" if count is None else str(count)


def _tunnels(count: int) -> str:
    return f"{count} tunnel" if count == 1 else f"{count} tunnels"
