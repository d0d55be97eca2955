"""A name that was deleted and claimed by somebody else: nothing of the old project reaches the new owner.

Over the real stores and the whole API, with a bus that loses the news of the deletion.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.auth_rig import AuthRig, open_auth_rig
from whook.backplane.memory import MemoryBus
from whook.backplane.ports import TOPIC_PROJECTS


async def tunnel(rig: AuthRig, token: str, project: str = "shop") -> dict[str, Any]:
    """Ask for a tunnel, which must be granted."""
    grant: dict[str, Any] = await rig.do(
        "POST", f"{rig.api_url}/v1/tunnels", {"project": project}, token=token
    )
    return grant


async def shown(rig: AuthRig, token: str) -> list[str]:
    """Give the ids of the projects that the token's owner sees."""
    listed = await rig.do("GET", f"{rig.api_url}/v1/projects", token=token)
    return [project["id"] for project in listed["projects"]]


async def test_the_new_owner_never_sees_the_old_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    publish = MemoryBus.publish

    async def lose(self: MemoryBus, topic: str, message: bytes, *, keep: float = 0.0) -> None:
        if topic == TOPIC_PROJECTS and b"project-gone" in message:
            lost.append(topic)
        else:
            await publish(self, topic, message, keep=keep)

    monkeypatch.setattr(MemoryBus, "publish", lose)
    async with open_auth_rig(tmp_path) as rig:
        ann, bob = await rig.user("ann"), await rig.user("bob")
        old = (await tunnel(rig, ann))["project_id"]
        assert await shown(rig, ann) == [old]
        await rig.do("DELETE", "/v1/projects/shop", token=ann)
        assert lost == [TOPIC_PROJECTS]
        await trio.testing.wait_all_tasks_blocked()
        await rig.do("POST", "/v1/projects", {"name": "shop"}, token=bob)

        # The conductor's row is still the old one; it is nobody's.
        assert await shown(rig, bob) == []
        gone = await rig.ask("GET", f"{rig.api_url}/v1/projects/shop", token=bob)
        assert gone.status_code == 404
        assert await shown(rig, ann) == []

        new = (await tunnel(rig, bob))["project_id"]
        assert new != old
        assert await shown(rig, bob) == [new]
        assert (await tunnel(rig, bob))["project_id"] == new
        refused = await rig.ask("POST", f"{rig.api_url}/v1/tunnels", {"project": "shop"}, token=ann)
        assert refused.status_code == 403
        assert await shown(rig, bob) == [new]
