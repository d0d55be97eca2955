"""Relays and claims for tests of a directory, and the wait for a gap of a bus."""

from __future__ import annotations

import pytest
import trio

from tests.support.deadlines import DEADLINE
from whook.backplane.ports import BusGap, Directory, RelayInfo, Route, RouteHeld, Subscription

LONG = 600.0
"""A lease that outlives every test."""


def relay(name: str = "r1", *, load: int = 0, draining: bool = False) -> RelayInfo:
    """Give a relay of that name."""
    return RelayInfo(
        id=name,
        tunnel_url=f"ws://{name}.example:1",
        trunk_url=f"tcp://{name}.example:1",
        capacity=50_000,
        load=load,
        version="1",
        draining=draining,
    )


async def claim(
    directory: Directory,
    project: str = "shop",
    *,
    by: str = "r1",
    instance: str = "laptop",
    takeover: bool = False,
) -> Route:
    """Claim a project for a tunnel of that instance."""
    return await directory.claim(
        project_id=f"prj_{project}",
        project=project,
        relay_id=by,
        tunnel_id=f"tun_{instance}",
        instance=instance,
        holder=f"ann@{instance}",
        takeover=takeover,
    )


async def reclaim(directory: Directory, route: Route) -> Route:
    """Put one route back. Raises RouteHeld, as a claim does."""
    (answer,) = await directory.reclaim([route])
    if isinstance(answer, RouteHeld):
        raise answer
    return answer


async def wait_gap(subscription: Subscription) -> None:
    """Read until there is a gap; what comes before it does not matter."""
    with trio.fail_after(DEADLINE), pytest.raises(BusGap):
        async for _ in subscription:
            pass


async def wait_message(subscription: Subscription) -> tuple[str, bytes]:
    """Wait for the next message, under the deadline."""
    with trio.fail_after(DEADLINE):
        return await subscription.__anext__()
