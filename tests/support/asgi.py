"""A real ASGI server on a real socket, and a client that speaks raw HTTP/1.1 to it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from whook.chassis.asgi import App, AsgiLimits, serve_asgi
from whook.chassis.drain import Drain
from whook.chassis.listen import bound_port, open_listeners

LIMIT = 20.0
"""Seconds after which a test that waits has failed."""


class Server:
    def __init__(self, port: int, drain: Drain, scope: trio.CancelScope) -> None:
        self.port = port
        self.drain = drain
        self.scope = scope
        self.returned = trio.Event()

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def serving(app: App, *, grace: float = LIMIT, **limits: Any) -> AsyncIterator[Server]:
    listeners = await open_listeners("127.0.0.1:0")
    server = Server(bound_port(listeners), Drain(grace), trio.CancelScope())

    async def run(task_status: trio.TaskStatus[Any]) -> None:
        with server.scope:
            await serve_asgi(
                app,
                listeners,
                name="test",
                drain=server.drain,
                limits=AsgiLimits(**limits),
                task_status=task_status,
            )
        server.returned.set()

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield server
            server.drain.begin("test ends")


async def respond(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Any) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        more = message["more_body"]
    return body


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, await read_body(receive))


async def flood(scope: Any, receive: Any, send: Any) -> None:
    """Answer with more than all socket buffers hold, in one send: an unread one is stuck for certain."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 32_000_000, "more_body": True})


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def problem(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        return str(json.loads(self.body)["type"])


class Client:
    """Enough of an HTTP client to see exactly what the server sent."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            data = await self.stream.receive_some()
            assert data, f"closed after {self.buffer!r}"
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    async def request(self, text: str, body: bytes = b"") -> Answer:
        await self.stream.send_all(text.replace("\n", "\r\n").encode() + b"Host: x\r\n\r\n" + body)
        return await self.answer()

    async def answer(self) -> Answer:
        lines = (await self._until(b"\r\n\r\n")).decode().split("\r\n")
        status = int(lines[0].split()[1])
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        length = int(headers["content-length"])
        while len(self.buffer) < length:
            data = await self.stream.receive_some()
            assert data, "closed in the body"
            self.buffer += data
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Answer(status, headers, body)

    async def closed(self) -> bool:
        """Wait for the server to close the connection; whether it sent nothing more."""
        try:
            return await self.stream.receive_some() == b""
        except trio.BrokenResourceError:
            return True


@asynccontextmanager
async def client_of(app: App, **limits: Any) -> AsyncIterator[Client]:
    async with serving(app, **limits) as server, await server.connect() as stream:
        yield Client(stream)
