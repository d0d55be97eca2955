"""The daemon `whook-conductor`: a conductor with the twins that its settings name.

The composition root of the service, and its only module that may import twins. It builds and connects; it
must never hold logic of the service.

    run_daemon
    └─ backplane on Redis · queue · database · auth over HTTP
       └─ conductor
"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from whook.backplane.auth_http import check_auth_url, open_http_auth
from whook.backplane.compose import (
    BackplaneSettings,
    Command,
    Configured,
    check_backplane_url,
    check_queue_url,
    open_backplane,
    open_journal,
    open_queue,
)
from whook.backplane.compose.command import EXIT_SCHEMA
from whook.backplane.compose.factory import MEMORY
from whook.backplane.compose.patience import open_awaited_database
from whook.backplane.sql import (
    CONDUCTOR,
    SchemaRefused,
    SqlBlobs,
    SqlHistory,
    SqlProjects,
    check_url,
    migrate_database,
)
from whook.chassis.daemon import Daemon
from whook.chassis.drain import Drain
from whook.chassis.settings import DaemonSettings
from whook_conductor.service import ConductorPorts, run_conductor
from whook_conductor.settings import ConductorSettings


def _check(configured: Configured) -> Iterator[str]:
    conductor, backplane = configured[ConductorSettings], configured[BackplaneSettings]
    if not conductor.cluster_key.get_secret_value():
        yield "WHOOK_CONDUCTOR_CLUSTER_KEY is not set: without it anyone could pass for a relay"
    if not backplane.service_key.get_secret_value():
        yield "WHOOK_BACKPLANE_SERVICE_KEY is not set: auth answers nobody without it"
    if conductor.drain_delay >= configured[DaemonSettings].drain_seconds:
        yield "WHOOK_CONDUCTOR_DRAIN_DELAY must be shorter than WHOOK_DAEMON_DRAIN_SECONDS"
    yield from backplane.faults(
        {"url": check_backplane_url, "conductor_database": check_url, "auth_url": check_auth_url}
    )
    if backplane.queue_url.get_secret_value() or backplane.url.get_secret_value() == MEMORY:
        try:
            check_queue_url(backplane)
        except ValueError as error:
            yield f"WHOOK_BACKPLANE_QUEUE_URL: {error}"


async def _body(configured: Configured, daemon: Daemon) -> None:
    settings = configured[BackplaneSettings]
    sealer = settings.sealer()
    async with (
        open_backplane(settings.url.get_secret_value()) as backplane,
        open_queue(settings, backplane.bus) as queue,
        open_awaited_database(settings.conductor_database.get_secret_value(), CONDUCTOR, daemon) as database,
        open_http_auth(
            settings.auth_url,
            settings.service_key.get_secret_value(),
            backplane.bus,
            ca_file=settings.auth_ca_file,
        ) as auth,
        open_journal(settings) as journal,
    ):

        async def conductor(*, task_status: trio.TaskStatus[ConductorPorts]) -> None:
            await run_conductor(
                configured[ConductorSettings],
                directory=backplane.directory,
                bus=backplane.bus,
                projects=SqlProjects(database, backplane.bus),
                auth=auth,
                queue=queue,
                history=SqlHistory(database, sealer),
                blobs=SqlBlobs(database, sealer),
                journal=journal,
                drain=drain,
                readiness=daemon.readiness,
                tracer=daemon.tracer,
                task_status=task_status,
            )

        # Begins a little after the daemon's own, which makes it unready at once: until then the load balancer
        # may not know, and what it sends is served.
        delay = configured[ConductorSettings].drain_delay
        drain = Drain(daemon.drain.grace - delay)

        async def drain_later() -> None:
            await daemon.drain.wait()
            drain.announce()  # senders whose connections are kept learn it by their responses
            await trio.sleep(delay)
            drain.begin(daemon.drain.reason)

        async with trio.open_nursery() as services:
            services.start_soon(drain_later)
            ports = await services.start(conductor)
            daemon.started(f"webhooks at {ports.public_url('<project>')}")


async def _migrate(configured: Configured) -> str:
    url = configured[BackplaneSettings].database("conductor_database", check_url)
    done = await migrate_database(url, CONDUCTOR)
    return f"the conductor database {'is now' if done else 'was already'} at {CONDUCTOR.head}"


COMMAND = Command(
    name="whook-conductor",
    help="Takes webhooks in, hands them to relays, and assigns tunnels.",
    sections=(ConductorSettings, BackplaneSettings),
    check=_check,
    body=_body,
    migrate=_migrate,
    failures={SchemaRefused: EXIT_SCHEMA},
)


def main() -> None:
    """Run the command `whook-conductor`."""
    COMMAND.main()


if __name__ == "__main__":
    main()
