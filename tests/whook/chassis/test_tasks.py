"""The task tree: who waits where, bounded however many there are, and never at the cost of the others."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from whook.chassis.admin import admin_app
from whook.chassis.drain import Drain
from whook.chassis.problem import CONTENT_TYPE
from whook.chassis.readiness import Readiness
from whook.chassis.tasks import SLICE, task_tree


async def ask(query: str = "", method: str = "GET") -> tuple[int, str, str]:
    """Ask the admin application; gives status, media type and body."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/debug/tasks", "query_string": query.encode()}
    await admin_app(Readiness(Drain()))(scope, None, send)
    head, body = sent
    return head["status"], dict(head["headers"])[b"content-type"].decode(), body["body"].decode()


async def sleeper(event: trio.Event) -> None:
    await event.wait()


async def parent(event: trio.Event) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper, event, name="the child")
        await event.wait()


def find(node: dict[str, Any], name: str) -> dict[str, Any] | None:
    if node["name"] == name:
        return node
    below = [task for nursery in node.get("nurseries", ()) for task in nursery["tasks"]]
    return next((found for task in below if (found := find(task, name)) is not None), None)


async def test_it_says_who_waits_where() -> None:
    event = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent, event, name="the parent\x1b[2J")
        await trio.testing.wait_all_tasks_blocked()
        status, kind, text = await ask()
        assert (status, kind) == (200, "text/plain; charset=utf-8")
        (line,) = [line for line in text.splitlines() if "the child" in line]
        assert "test_tasks.py:" in line
        assert line.endswith((" sleeper, Event.wait", " sleeper, wait"))
        assert "the parent?[2J" in text
        status, kind, body = await ask("format=json")
        assert (status, kind) == (200, "application/json")
        found = find(json.loads(body)["root"], "the parent?[2J")
        assert found is not None
        assert (found["function"], found["tasks"], found["waits"]["function"]) == ("parent", 2, "parent")
        (below,) = found["nurseries"]
        assert [task["name"] for task in below["tasks"]] == ["the child"]
        event.set()


async def test_many_are_counted_not_listed_and_hold_up_nobody() -> None:
    event, ticks = trio.Event(), 0

    async def tick() -> None:
        nonlocal ticks
        while not event.is_set():
            await trio.lowlevel.checkpoint()
            ticks += 1

    async with trio.open_nursery() as nursery:
        for number in range(5_000):
            nursery.start_soon(sleeper, event, name=f"tunnel {number}")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(tick)
        before = ticks
        tree = await task_tree()
        assert ticks - before > 3, f"a walk is longer than a slice of {SLICE} s"
        text = tree.text()
        assert tree.living > 5_000
        assert tree.shown < 100
        assert "… and 4997 more in sleeper" in text
        assert len(text) < 20_000
        assert (await task_tree(limit=5)).shown == 5
        wide = await task_tree(limit=1_000, alike=900)
        assert "… and 4100 more in sleeper" in wide.text()
        event.set()


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "alike=0", "format=html", "format=json&limit=-1"]
)
async def test_what_makes_no_sense_is_refused(query: str) -> None:
    status, kind, body = await ask(query)
    assert (status, kind) == (400, CONTENT_TYPE)
    assert json.loads(body)["type"] == "urn:whook:problem:bad-request"


async def test_it_is_only_read() -> None:
    assert (await ask(method="POST"))[0] == 405
    assert (await ask(method="HEAD"))[0] == 200
