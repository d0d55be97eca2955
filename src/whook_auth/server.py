"""The auth service's supervision tree: its API with the login pages, and the refusals of relays.

`run_auth` is called by the composition root with auth open over its store.

auth body
└─ infrastructure: refusals of relays · kicks · upkeep        an early return is fatal
   └─ the API and the pages                          end with the drain, at its deadline by force
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
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
from whook.chassis.metrics import Publisher
from whook_auth.api import build_api
from whook_auth.parts import Parts, make_parts, utc_now
from whook_auth.service import AuthService
from whook_auth.settings import AuthSettings
from whook_auth.upkeep import Upkeep

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
    with _published(parts):
        async with trio.open_nursery() as infrastructure:
            await infrastructure.start(auth.trail.follow, bus, name="refusals of relays")
            await infrastructure.start(auth.kicks.run, name="kicks")
            upkeep = Upkeep(
                auth, store, audit_days=settings.audit_days, key_days=settings.key_days, now=utc_now
            )
            infrastructure.start_soon(upkeep.run, name="upkeep")
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


@contextmanager
def _published(parts: Parts) -> Generator[None]:
    """Publish metrics as long as the block runs."""
    with Publisher() as to:
        decided = "Decisions about what somebody may do, by the action."
        for (action, result), read in _reads(parts.auth.trail.decisions):
            to.counter("whook_auth_decisions", decided, read, action=action, result=result)
        guessed = "Attempts to log in or to enter a user code."
        for (kind, result), read in _reads(parts.throttle.counts):
            to.counter("whook_auth_attempts", guessed, read, attempt=kind.replace(" ", "-"), result=result)
        taken = "Rights taken away, of which relays are told."
        to.counter("whook_auth_kicks", taken, lambda: parts.auth.kicks.sent)
        yield


def _reads(
    counts: dict[tuple[str, str], int],
) -> Generator[tuple[tuple[str, str], Callable[[], int]]]:
    for key in counts:
        yield key, partial(counts.__getitem__, key)
