"""A relay in a process of its own, on the backplane in memory: what a tunnel costs the relay alone.

Run as `python -m bench.relay_alone` by the `idle` scenario. It prints where tunnels are opened and the key
(made for this run) with which the far end signs its own tunnel tokens, in the place of auth and conductor.
"""

from __future__ import annotations

import json
import sys

import trio
from pydantic import SecretStr

from whook.backplane.memory import open_memory_backplane
from whook.chassis.drain import Drain
from whook.chassis.logs import configure_logging
from whook.chassis.readiness import Readiness
from whook.chassis.tunnel_token import SigningKey, Verifier, jwks
from whook_relay.service import run_relay
from whook_relay.settings import RelaySettings


async def main() -> None:
    """Run until the parent ends this process."""
    configure_logging("json", "info")
    key = SigningKey.generate()
    settings = RelaySettings(
        listen="127.0.0.1:0",
        cluster_key=SecretStr("bench" * 8),
        handshakes_per_second=100_000,
        max_handshakes=100_000,
    )
    drain = Drain()
    async with open_memory_backplane() as backplane, trio.open_nursery() as nursery:

        async def relay(task_status: trio.TaskStatus[object]) -> None:
            await run_relay(
                settings,
                directory=backplane.directory,
                bus=backplane.bus,
                verifier=Verifier(jwks([key])),
                drain=drain,
                readiness=Readiness(drain),
                task_status=task_status,
            )

        ports = await nursery.start(relay)
        sys.stdout.write(json.dumps({"url": ports.tunnel_url, "key": key.to_pem().decode()}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main)
