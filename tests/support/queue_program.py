"""A process that works with a queue in a file until it is killed, and says what is done when it is done.

``append``: several tasks append one after the other; each line is a body, printed when its append returned.
``deliver``: reads and settles; a line ``read BODY ATTEMPT`` or ``settled BODY``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from tests.support.queues import LONG, QUEUES, UNLIMITED, event, read
from whook.backplane.ports import Queue

TASKS = 8


def say(line: str) -> None:
    """Write a line at once, as one write: the process may be killed before the next."""
    os.write(1, f"{line}\n".encode())


async def append(queue: Queue, run: str) -> None:
    async def work(task: int) -> None:
        number = 0
        while True:
            body = f"{run}.{task}.{number}"
            await queue.append(event(body=body.encode()), UNLIMITED)
            say(body)
            number += 1

    async with trio.open_nursery() as nursery:
        for task in range(TASKS):
            nursery.start_soon(work, task)


async def deliver(queue: Queue, owner: str) -> None:
    await queue.attend(owner, LONG)
    ownership = await queue.acquire("prj_shop", owner)
    assert ownership is not None
    while True:
        for entry in await read(queue, ownership, limit=7):
            body = (entry.event.body or b"").decode()
            say(f"read {body} {entry.attempt}")
            await queue.settle(ownership, [entry.position])
            say(f"settled {body}")


async def main(*arguments: str) -> None:
    mode, folder, name = arguments
    async with QUEUES[0].open(Path(folder)) as opened:
        await (append if mode == "append" else deliver)(opened.queue, name)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
