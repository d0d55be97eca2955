"""A relay as far as the directory goes: takes a lease, claims, says so, and lives until it is killed."""

from __future__ import annotations

import sys

import trio

from tests.support.claims import claim, relay
from whook.backplane.redis import open_redis_backplane


async def main(url: str, ttl: str, *projects: str) -> None:
    async with open_redis_backplane(url) as backplane:
        await backplane.directory.announce(relay("killed"), float(ttl))
        for project in projects:
            await claim(backplane.directory, project, by="killed")
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
