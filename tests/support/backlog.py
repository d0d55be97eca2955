"""What tests do with a conductor's backlog."""

from __future__ import annotations

import json

import trio
import trio.testing

from tests.support.async_http import post
from tests.support.conductor import Rig
from tests.support.deadlines import DEADLINE
from whook.backplane.ports import StoredEvent
from whook.chassis.ids import new_id


async def buffer(rig: Rig, *targets: str, name: str = "shop") -> list[str]:
    """Have webhooks stored; return their event ids."""
    await rig.projects.create(name)
    ids: list[str] = []
    async with rig.client() as client:
        for target in targets:
            await client.send(post(target.encode(), target, host=f"{name}.localhost"))
            response = await client.read_response()
            assert response.status == 202, response.body
            ids.append(json.loads(response.body)["event_id"])
    return ids


async def emptied(rig: Rig) -> None:
    """Wait until nothing waits."""
    with trio.fail_after(DEADLINE):
        while await rig.queue.backlogs():
            await trio.testing.wait_all_tasks_blocked(0.005)


def event(name: str) -> StoredEvent:
    """Make an event of a project that was received before."""
    return StoredEvent(
        id=new_id("evt"),
        project_id=f"prj_{name}",
        project=name,
        received_at=1.7e9,
        peer="192.0.2.1",
        trusted=False,
        scheme="https",
        version=b"1.1",
        method=b"POST",
        target=b"/hook",
        headers=[(b"Host", b"shop.example"), (b"Content-Length", b"2")],
        body_size=2,
        body=b"{}",
    )
