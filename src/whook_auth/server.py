"""The auth service's supervision tree: its API with the login pages, and the refusals of relays.

`run_auth` is called by the composition root with auth open over its store.

auth body
└─ infrastructure: refusals of relays · kicks        an early return is fatal
   └─ the API and the pages                          end with the drain, at its deadline by force
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio
from fastapi import APIRouter

from whook.backplane.ports import AuthStore, Bus
from whook.chassis.asgi import AsgiLimits, serve_asgi
from whook.chassis.drain import Drain
from whook.chassis.listen import bound_address, open_listeners
from whook.chassis.logs import get_logger
from whook_auth.api import build_api
from whook_auth.parts import Parts, make_parts
from whook_auth.service import AuthService
from whook_auth.settings import AuthSettings

_BODY: Final = 65_536
"""Longest request body in bytes: the longest form has a password of a thousand characters in it."""

_log = get_logger("whook.auth")


@dataclass(frozen=True, slots=True)
class AuthPorts:
    """Where a started auth service is reached: `host:port`, and the URL for people and clients."""

    address: str
    public_url: str


async def run_auth(
    settings: AuthSettings,
    *,
    auth: AuthService,
    store: AuthStore,
    bus: Bus,
    drain: Drain,
    routers: Sequence[APIRouter] = (),
    make: Callable[..., Parts] = make_parts,
    task_status: trio.TaskStatus[AuthPorts] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve auth until the drain is over. ``routers`` are mounted beside its own API.

    ``make`` puts the parts together; tests have cheaper passwords.

    Raises:
        ListenError: the address is taken or unusable.
    """
    listeners = await open_listeners(settings.listen, what="the login", option="--auth-port")
    address = bound_address(listeners)
    ports = AuthPorts(address, settings.public_url or f"http://{address}")
    parts = make(
        auth,
        store,
        bus,
        public_url=ports.public_url,
        trusted_proxies=settings.trusted_proxies,
        device_interval=settings.device_interval,
    )
    app = build_api(parts)
    for router in routers:
        app.include_router(router)
    async with trio.open_nursery() as infrastructure:
        await infrastructure.start(auth.trail.follow, bus, name="refusals of relays")
        await infrastructure.start(auth.kicks.run, name="kicks")
        async with trio.open_nursery() as handlers:
            serve = partial(
                serve_asgi, app, listeners, name="auth", drain=drain, limits=AsgiLimits(body=_BODY)
            )
            await handlers.start(serve)
            task_status.started(ports)
            _log.info("auth ready", api=address, url=ports.public_url)
            await drain.wait()
            handlers.cancel_scope.deadline = drain.deadline
        infrastructure.cancel_scope.cancel(reason="auth has drained")
