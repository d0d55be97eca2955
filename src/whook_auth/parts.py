"""What the auth service is made of, put together once and handed to the API and to the pages.

Called by the server of this package, and by tests. Nothing runs here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from whook.backplane.ports import AuthStore, Bus
from whook.chassis.api import Network
from whook_auth.accounts import Accounts
from whook_auth.device import INTERVAL, DeviceLogins
from whook_auth.members import Members
from whook_auth.passwords import Passwords
from whook_auth.service import AuthService
from whook_auth.throttle import ATTEMPTS, Throttle


@dataclass(frozen=True, slots=True)
class Parts:
    """One auth service."""

    auth: AuthService
    store: AuthStore
    bus: Bus
    accounts: Accounts
    members: Members
    devices: DeviceLogins
    throttle: Throttle
    public_url: str
    """How people and clients reach it, without a slash at the end."""
    trusted_proxies: tuple[Network, ...]
    now: Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def make_parts(
    auth: AuthService,
    store: AuthStore,
    bus: Bus,
    *,
    public_url: str,
    trusted_proxies: tuple[Network, ...] = (),
    device_interval: int = INTERVAL,
    attempts: tuple[float, float] = ATTEMPTS,
    passwords: Passwords | None = None,
    now: Callable[[], datetime] = utc_now,
) -> Parts:
    """Return the parts over an open auth. ``now`` tells the time in UTC."""
    throttle = Throttle(store, now, attempts=attempts)
    return Parts(
        auth=auth,
        store=store,
        bus=bus,
        accounts=Accounts(store, auth, passwords or Passwords(), throttle, now),
        members=Members(store, auth, bus, now),
        devices=DeviceLogins(store, auth, throttle, now, interval=device_interval),
        throttle=throttle,
        public_url=public_url,
        trusted_proxies=trusted_proxies,
        now=now,
    )
