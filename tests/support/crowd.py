"""Many clients in one process: the session of `whook connect` for each project, with sockets of its own.

Run as a program, ``python -m tests.support.crowd``; `Crowd` starts it and reads what it prints. Nothing is
replaced but the terminal: changes of every tunnel come as JSON lines with the project's name. SIGTERM drains.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import trio

from tests.support.whook_process import WhookProcess
from whook_cli.display import Display, open_display
from whook_cli.forward import Forwarder
from whook_cli.handler import Handler
from whook_cli.pool import open_pool
from whook_cli.records import Record, StatusRecord
from whook_cli.respond import Responder
from whook_cli.session import Plan, Session
from whook_cli.stop import Stop, open_stop
from whook_cli.target import parse_target
from whook_cli.tunnel import Client

OPENING = 32
"""Sessions that open their first tunnel at the same time."""
ROOT = Path(__file__).parents[2]


class Crowd(WhookProcess):
    """The process with all these clients. Events carry ``project``."""

    def __init__(self, projects: Sequence[str], *, server: str, forward: str, token: str, home: Path) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        super().__init__(
            *("--server", server, "--forward", forward, *projects),
            home=home,
            env={"WHOOK_TOKEN": token, "PYTHONPATH": path},
            module="tests.support.crowd",
        )
        self.projects = list(projects)

    def wait_ready(self, seconds: float) -> None:
        """Wait until every project has had its tunnel."""

        def look() -> bool | None:
            return sum(event.get("event") == "ready" for event in self.events) == len(self.projects) or None

        self._wait(look, f"{len(self.projects)} tunnels", seconds)

    def up(self) -> dict[str, bool]:
        """Say of every project whether its tunnel stands, as its client sees it."""
        found = dict.fromkeys(self.projects, False)
        for event in self.events:
            if (kind := event.get("event")) in {"ready", "back", "moved", "lost", "ended"}:
                found[str(event["project"])] = kind not in {"lost", "ended"}
        return found

    def wait_all_up(self, seconds: float) -> None:
        """Wait until every client says that its tunnel stands."""
        self._wait(lambda: all(self.up().values()) or None, "all tunnels back", seconds)


class _Named(Display):
    """The display of one session: what it says of the tunnel, with the project's name."""

    def __init__(self, project: str, shared: Display) -> None:
        super().__init__(lambda _: [])
        self._project = project
        self._shared = shared
        self.first = trio.Event()

    def show(self, record: Record) -> None:
        if isinstance(record, StatusRecord):
            self.first.set()
            values = {"monotonic": time.monotonic(), **record.values, "project": self._project}
            self._shared.show(dataclasses.replace(record, values=values))


async def _session(
    project: str, arguments: argparse.Namespace, shared: Display, stop: Stop, opening: trio.CapacityLimiter
) -> None:
    display = _Named(project, shared)
    target = parse_target(arguments.forward)
    client = Client("whook/crowd", f"cli_{os.urandom(12).hex()}", f"{project}@crowd", 64)
    token = os.environ["WHOOK_TOKEN"]
    plan = Plan(arguments.server, token, project, "exclusive", target.url, target.url, 10.0, client)
    async with open_pool(target, insecure=False) as pool, trio.open_nursery() as nursery:
        handler = Handler(display, Responder(), verbose=False)
        handler.forwarder = Forwarder(pool, opened=handler.opened)

        async def run() -> None:
            ending = await Session(plan, handler, display, stop).run()
            display.status("ended", "ended", reason=str(ending) if ending else "")

        async with opening:
            nursery.start_soon(run)
            await display.first.wait()


async def _main(arguments: argparse.Namespace) -> None:
    async with open_display(as_json=True, out=sys.stdout, err=sys.stderr) as display, open_stop() as stop:
        opening = trio.CapacityLimiter(OPENING)
        async with trio.open_nursery() as nursery:
            for project in arguments.projects:
                nursery.start_soon(_session, project, arguments, display, stop, opening)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--forward", required=True)
    parser.add_argument("projects", nargs="+")
    trio.run(_main, parser.parse_args())
