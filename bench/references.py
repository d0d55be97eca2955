"""The references: what a bare hypercorn application, and httptools alone, cost for the same load.

Run as `python -m bench.references hypercorn|httptools`; prints {"port": N} once it listens. Both read the
whole body and answer 200 with two bytes. The httptools server is also the local server behind the real CLI.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httptools
import hypercorn.trio
import trio

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def say_port(port: int) -> None:
    """Tell the parent that connections are welcome."""
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()


async def app(
    scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answer as little as an ASGI application can."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


async def serve_hypercorn() -> None:
    """Serve the application with hypercorn's Trio worker, as its documentation shows."""
    config = hypercorn.Config()
    config.bind = ["127.0.0.1:0"]
    config.keep_alive_max_requests = sys.maxsize
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(hypercorn.trio.serve, app, config)
        say_port(int(address.rpartition(":")[2]))


class Counter:
    """The least that httptools' callbacks can do: note that a message is over."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = 0

    def on_message_complete(self) -> None:
        """Count a whole request."""
        self.complete += 1


async def answer(stream: trio.SocketStream) -> None:
    """Answer every request on one connection."""
    counter = Counter()
    parser = httptools.HttpRequestParser(counter)
    try:
        while data := await stream.receive_some(65_536):
            parser.feed_data(data)
            if counter.complete:
                whole, counter.complete = counter.complete, 0
                await stream.send_all(ANSWER * whole)
    except trio.BrokenResourceError:
        return
    finally:
        await trio.aclose_forcefully(stream)


async def serve_httptools() -> None:
    """Serve with a Trio stream and httptools, nothing else."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    say_port(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(answer, listeners)


if __name__ == "__main__":
    trio.run({"hypercorn": serve_hypercorn, "httptools": serve_httptools}[sys.argv[1]])
