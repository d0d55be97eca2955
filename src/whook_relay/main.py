"""The daemon `whook-relay`: a relay with the twins that its settings name.

The composition root of the service, and its only module that may import twins. It builds and connects; it
must never hold logic of the service.

    run_daemon
    └─ backplane on Redis · connection to auth
       └─ keys of auth, fetched for ever
          └─ relay
"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from whook.backplane.auth_http import PublishedKeys, check_auth_url, open_connection
from whook.backplane.compose import (
    BackplaneSettings,
    Command,
    Configured,
    check_backplane_url,
    open_backplane,
)
from whook.chassis.daemon import Daemon
from whook_relay.service import RelayPorts, run_relay
from whook_relay.settings import RelaySettings


def _check(configured: Configured) -> Iterator[str]:
    relay, backplane = configured[RelaySettings], configured[BackplaneSettings]
    if not relay.cluster_key.get_secret_value():
        yield "WHOOK_RELAY_CLUSTER_KEY is not set: without it anyone could pass for a conductor"
    yield from backplane.faults({"url": check_backplane_url, "auth_url": check_auth_url})


async def _body(configured: Configured, daemon: Daemon) -> None:
    settings = configured[BackplaneSettings]
    async with (
        open_backplane(settings.url.get_secret_value()) as backplane,
        open_connection(settings.auth_url, ca_file=settings.auth_ca_file) as auth,
        trio.open_nursery() as infrastructure,
    ):
        keys = PublishedKeys(auth)
        await infrastructure.start(keys.run, name="keys")

        async def relay(*, task_status: trio.TaskStatus[RelayPorts]) -> None:
            await run_relay(
                configured[RelaySettings],
                directory=backplane.directory,
                bus=backplane.bus,
                verifier=keys.verifier,
                refresh_keys=keys.refresh,
                drain=daemon.drain,
                readiness=daemon.readiness,
                tracer=daemon.tracer,
                task_status=task_status,
            )

        with daemon.readiness.check("keys", keys.check):
            async with trio.open_nursery() as services:
                ports = await services.start(relay)
                daemon.started(f"tunnels at {ports.tunnel_url}")
        infrastructure.cancel_scope.cancel(reason="the relay has ended")


COMMAND = Command(
    name="whook-relay",
    help="Holds tunnels, and carries webhooks between conductors and clients.",
    sections=(RelaySettings, BackplaneSettings),
    check=_check,
    body=_body,
)


def main() -> None:
    """Run the command `whook-relay`."""
    COMMAND.main()


if __name__ == "__main__":
    main()
