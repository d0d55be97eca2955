"""The daemon `whook-auth`: the auth service with the twins that its settings name.

The composition root of the service, and its only module that may import twins. It builds and connects; it
must never hold logic of the service.

    run_daemon
    └─ backplane on Redis (for the bus) · database · auth
       └─ API, login pages, internal API
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from functools import partial
from typing import Annotated

import trio
from cyclopts import App, Parameter

from whook.backplane.compose import (
    BackplaneSettings,
    Command,
    Configured,
    check_backplane_url,
    open_backplane,
)
from whook.backplane.compose.command import EXIT_SCHEMA, ConfigFile
from whook.backplane.compose.patience import open_awaited_database
from whook.backplane.sql import AUTH, SchemaRefused, SqlAuthStore, check_url, migrate_database, open_database
from whook.chassis.daemon import Daemon
from whook.chassis.settings import SettingsError
from whook_auth.accounts import create_admin
from whook_auth.internal_api import build_internal_api
from whook_auth.parts import utc_now
from whook_auth.passwords import Passwords
from whook_auth.server import AuthPorts, run_auth
from whook_auth.service import open_auth
from whook_auth.settings import AuthSettings


def _check(configured: Configured) -> Iterator[str]:
    backplane = configured[BackplaneSettings]
    if not backplane.service_key.get_secret_value():
        yield "WHOOK_BACKPLANE_SERVICE_KEY is not set: by it auth knows the conductors of this cluster"
    yield from backplane.faults({"url": check_backplane_url, "auth_database": check_url})


async def _body(configured: Configured, daemon: Daemon) -> None:
    settings = configured[BackplaneSettings]
    keys = [settings.service_key.get_secret_value(), settings.previous_service_key.get_secret_value()]
    async with (
        open_backplane(settings.url.get_secret_value()) as backplane,
        open_awaited_database(settings.auth_database.get_secret_value(), AUTH, daemon) as database,
    ):
        store = SqlAuthStore(database)
        async with open_auth(store, backplane.bus) as auth:
            token = await auth.bootstrap_token()
            if token is not None:
                sys.stdout.write(f"admin token  {token}  (shown once)\n")
                sys.stdout.flush()

            async def serve(*, task_status: trio.TaskStatus[AuthPorts]) -> None:
                await run_auth(
                    configured[AuthSettings],
                    auth=auth,
                    store=store,
                    bus=backplane.bus,
                    drain=daemon.drain,
                    routers=[build_internal_api(auth, [key for key in keys if key])],
                    task_status=task_status,
                )

            async with trio.open_nursery() as services:
                ports = await services.start(serve)
                daemon.started(f"auth at {ports.public_url}")


def _database(configured: Configured) -> str:
    return configured[BackplaneSettings].database("auth_database", check_url)


async def _migrate(configured: Configured) -> str:
    done = await migrate_database(_database(configured), AUTH)
    return f"the auth database {'is now' if done else 'was already'} at {AUTH.head}"


async def _create_admin(configured: Configured, name: str, password: str) -> None:
    async with open_database(_database(configured), AUTH) as database:
        await create_admin(SqlAuthStore(database), name, password, now=utc_now, passwords=Passwords())


def _more(command: Command, app: App) -> None:
    @app.command(name="create-admin")
    def create(
        name: Annotated[str, Parameter(help="Name of the account.")], *, config: ConfigFile = None
    ) -> int:
        """Make an administrator, or give one a new password, which is read from the terminal or stdin."""
        configured = command.load(config)
        asked = sys.stdin.isatty()
        password = getpass.getpass("Password: ") if asked else sys.stdin.readline().rstrip("\n")
        try:
            trio.run(partial(_create_admin, configured, name, password))
        except ValueError as error:
            raise SettingsError([str(error)]) from None
        sys.stdout.write(f"{name} is an administrator now\n")
        return 0


COMMAND = Command(
    name="whook-auth",
    help="Users, access tokens, who owns which project, and the tokens that open tunnels.",
    sections=(AuthSettings, BackplaneSettings),
    check=_check,
    body=_body,
    migrate=_migrate,
    more=_more,
    failures={SchemaRefused: EXIT_SCHEMA},
)


def main() -> None:
    """Run the command `whook-auth`."""
    COMMAND.main()


if __name__ == "__main__":
    main()
