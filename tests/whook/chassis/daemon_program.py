"""A daemon for the tests to signal: ``python daemon_program.py BODY``. Prints its ports on stdout."""

import sys
import time

import trio

from whook.chassis import daemon as daemon_module
from whook.chassis.asgi import serve_asgi
from whook.chassis.daemon import Daemon, run_daemon
from whook.chassis.listen import bound_port, open_listeners
from whook.chassis.logs import configure_logging
from whook.chassis.settings import DaemonSettings


def ready(daemon: Daemon, port: int = 0) -> None:
    print(daemon.admin_address.rpartition(":")[2], port, flush=True)
    daemon.started("test body")


async def finishes(daemon: Daemon) -> int:
    ready(daemon)
    await daemon.drain.wait()
    return 3


async def goes_on(daemon: Daemon) -> None:
    ready(daemon)
    await trio.sleep_forever()


async def hides(daemon: Daemon) -> None:
    ready(daemon)
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


async def blocks(daemon: Daemon) -> None:
    ready(daemon)
    await trio.to_thread.run_sync(time.sleep, 3600)


async def streams(daemon: Daemon) -> None:
    async def flood(scope, receive, send):  # type: ignore[no-untyped-def]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        # More than all socket buffers hold, in one send: an unread one is stuck for certain.
        await send({"type": "http.response.body", "body": b"x" * 32_000_000, "more_body": True})

    listeners = await open_listeners("127.0.0.1:0")
    ready(daemon, bound_port(listeners))
    await serve_asgi(flood, listeners, name="flood", drain=daemon.drain)


async def fails(daemon: Daemon) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        ready(daemon)
        raise RuntimeError("boom")


def main() -> int:
    configure_logging("json")
    daemon_module.LAST_RESORT = 0.5
    body = {b.__name__: b for b in (finishes, goes_on, hides, blocks, streams, fails)}[sys.argv[1]]
    settings = DaemonSettings.load({"admin": "127.0.0.1:0"})

    async def run() -> int:
        return await run_daemon("test", body, settings=settings)

    return trio.run(run)


if __name__ == "__main__":
    sys.exit(main())
