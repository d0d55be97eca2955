"""`whook events replay`: events delivered again, by the server's queue or by this process to a URL.

Called by `events_app`. Keeps their order, and with `--speed` the pauses between them. Whatever is not
delivered again is named on standard error, and in the exit status.
"""

import math
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import trio

from whook_cli.about import complain, say
from whook_cli.display import Display, open_display
from whook_cli.events_api import Event, EventsApi, Filters, Replayed
from whook_cli.events_commands import ask, need_project
from whook_cli.events_local import LocalSender, open_sender
from whook_cli.events_message import read_message
from whook_cli.events_output import readers_may_leave
from whook_cli.exits import Exit, ExitCode, UsageError
from whook_cli.options import AccountOptions
from whook_cli.stop import Stop, cut_off, open_stop
from whook_cli.target import parse_target

_AT_ONCE: Final = 1_000
"""Events that one request may name."""
_REASONS: Final = {
    "unknown-event": "there is no such event (any more)",
    "body-not-kept": "its body was not kept",
}
_STOPPED: Final = {
    "queue-full": "as much waits as may: deliver that first",
    "unavailable": "the server cannot store anything now",
}

Take = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPlan:
    """What is to be replayed, and how."""

    events: Sequence[str]
    project: str | None
    filters: Filters
    speed: float
    """How many times faster than it was."""
    to: str | None = None
    insecure: bool = False
    rewrite_host: bool = False


class _Tally:
    """What was done, and what was not."""

    def __init__(self) -> None:
        self.done = 0
        self.left_out = 0
        self.waiting = 0

    def take(self, got: Replayed) -> None:
        self.done += len(got.queued)
        for one in got.skipped:
            if one.reason == "still-waiting":
                self.waiting += 1
                continue
            complain(f"{one.event} is not replayed: {_REASONS.get(one.reason, one.reason)}")
            self.left_out += 1
        if got.stopped is not None:
            raise Exit(
                ExitCode.INCOMPLETE,
                f"stopped after {self.done}: {_STOPPED.get(got.stopped, got.stopped)}",
            )


def run_replay(account: AccountOptions, plan: ReplayPlan) -> None:
    """Replay what was asked for. Raises `Exit`."""
    if bool(plan.events) == plan.filters.any:
        hint = "whook events replay EVENT..., or --since, --until, --status, --grep"
        raise UsageError("replay either events or a range" if plan.events else "replay what?", hint=hint)
    if not plan.events:
        need_project(plan.project, "replay --project PROJECT")
    target = parse_target(plan.to) if plan.to is not None else None
    tally = _Tally()

    async def main(api: EventsApi) -> bool:
        async with open_stop() as stop:
            if target is None:
                await _by_server(api, plan, tally, stop)
                return stop.begun
            async with (
                open_display(as_json=False, out=sys.stdout, err=sys.stderr) as display,
                open_sender(
                    target, display, insecure=plan.insecure, rewrite_host=plan.rewrite_host
                ) as sender,
            ):
                await _in_order(api, plan, stop, _to_url(api, sender, display, tally))
        if stop.forced:
            raise cut_off()
        return stop.begun

    stopped = False
    with readers_may_leave():
        stopped = ask(account, main)
        what = "event" if tally.done == 1 else "events"
        if target is None:
            say(f"Queued {tally.done} {what} for delivery, in order.")
        else:
            say(f"Sent {tally.done} {what} to {target.url}.")
    if tally.waiting:
        complain(f"{tally.waiting} left out, which wait to be delivered already")
    if stopped:
        raise Exit(ExitCode.INCOMPLETE, f"stopped after {tally.done}")
    if tally.left_out:
        raise Exit(ExitCode.INCOMPLETE, f"{tally.left_out} not replayed")


# -- by the server


async def _by_server(api: EventsApi, plan: ReplayPlan, tally: _Tally, stop: Stop) -> None:
    if plan.speed != math.inf:

        async def queue_one(event: Event) -> None:
            tally.take(await api.replay(event.project, {"events": [event.id]}))

        await _in_order(api, plan, stop, queue_one)
    elif plan.events:
        for project, ids in await _by_project(api, plan.events):
            for at in range(0, len(ids), _AT_ONCE):
                tally.take(await api.replay(project, {"events": ids[at : at + _AT_ONCE]}))
    else:
        assert plan.project is not None
        wanted = plan.filters.body()
        while not stop.begun:
            got = await api.replay(plan.project, wanted)
            tally.take(got)
            if got.next is None:
                return
            wanted["after"] = got.next


async def _by_project(api: EventsApi, event_ids: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Group events by the projects that they are of, keeping their order."""
    groups: list[tuple[str, list[str]]] = []
    for event_id in event_ids:
        project = (await api.get(event_id)).project
        if not groups or groups[-1][0] != project:
            groups.append((project, []))
        groups[-1][1].append(event_id)
    return groups


# -- to a URL


def _to_url(api: EventsApi, sender: LocalSender, display: Display, tally: _Tally) -> Take:
    async def send_one(event: Event) -> None:
        try:
            raw = await api.raw(event.project, event.id)
            message = read_message(raw)
        except Exit as error:
            if error.code != ExitCode.NOT_FOUND:
                raise
            display.status("warning", f"{event.id} is not replayed: {error}", serious=True)
            tally.left_out += 1
            return
        if await sender.send(event, message):
            tally.done += 1
        else:
            tally.left_out += 1

    return send_one


# -- in order, at a pace


async def _in_order(api: EventsApi, plan: ReplayPlan, stop: Stop, take: Take) -> None:
    """Take events one by one; with a speed, as far apart as they were, so many times faster."""
    pace = _Pace(plan.speed, stop)
    if plan.events:
        for event_id in plan.events:
            await pace.step(await api.get(event_id), take)
        return
    assert plan.project is not None
    async for page in api.find(plan.project, plan.filters, oldest_first=True):
        for event in page:
            await pace.step(event, take)
            if stop.begun:
                return


class _Pace:
    """Waits until each event is due."""

    def __init__(self, speed: float, stop: Stop) -> None:
        self._speed = speed
        self._stop = stop
        self._first: datetime | None = None
        self._began = 0.0

    async def step(self, event: Event, take: Take) -> None:
        """Wait for its time, then take it; not at all once it is to stop."""
        if self._first is None:
            self._first, self._began = event.received_at, trio.current_time()
        behind = max(0.0, (event.received_at - self._first).total_seconds())
        with trio.move_on_at(self._began + behind / self._speed):
            await self._stop.wait()
        if not self._stop.begun:
            await take(event)
