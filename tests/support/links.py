"""Links in pairs, for tests of what runs over them: in memory, in lockstep, or over a real WebSocket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio
import trio.testing

from tests.support.deadlines import DEADLINE
from tests.support.wire_talk import ROUTE, request, show_frame
from whook.link import (
    Answerer,
    Batch,
    Data,
    End,
    Exchange,
    ExchangeReset,
    Head,
    Link,
    Opener,
    StreamTransport,
    Transport,
)
from whook.link.acceptor import Handshake, receive_handshake
from whook.link.websocket import connect_websocket
from whook.wire import Frame, Headers, Response

Handler = Callable[[Exchange], Awaitable[None]]
Transports = tuple[Transport, Transport]


async def until(look: Callable[[], object]) -> None:
    """Wait until `look` gives something true, looking again whenever the other tasks have come to rest."""
    with trio.fail_after(DEADLINE):
        while not look():
            await trio.testing.wait_all_tasks_blocked()


class Counted:
    """A transport that keeps what was sent through it, message by message."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.sent: list[bytes] = []

    async def receive(self) -> bytes:
        return await self._transport.receive()

    async def send(self, data: Batch) -> None:
        self.sent.append(data if isinstance(data, bytes) else b"".join(data))
        await self._transport.send(data)

    async def aclose(self) -> None:
        await self._transport.aclose()


def in_memory() -> Transports:
    """A pair in memory that takes everything at once."""
    near, far = trio.testing.memory_stream_pair()
    return StreamTransport(near), StreamTransport(far)


def in_lockstep() -> Transports:
    """A pair in memory that takes nothing before the other end receives it."""
    near, far = trio.testing.lockstep_stream_pair()
    return StreamTransport(near), StreamTransport(far)


@asynccontextmanager
async def tcp_pair() -> AsyncGenerator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Two ends of one TCP connection on this machine."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        far = await listener.accept()
    async with near, far:
        yield near, far


@asynccontextmanager
async def open_handshake(stream: trio.abc.Stream, *, timeout: float) -> AsyncGenerator[Handshake]:
    """Receive a handshake on a stream, which is closed on exit."""
    try:
        with trio.fail_after(timeout):
            handshake = await receive_handshake(stream)
        yield handshake
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def over_websocket() -> AsyncGenerator[Transports]:
    """A pair over a real WebSocket: the server's end first, then the client's."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
    accepted: list[Transport] = []
    done = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async with open_handshake(await listener.accept(), timeout=DEADLINE) as handshake:
            accepted.append(await handshake.accept())
            await done.wait()

    async with listener, trio.open_nursery() as nursery:
        await nursery.start(serve)
        async with connect_websocket(url, headers=[], timeout=DEADLINE) as client:
            await until(lambda: accepted)
            yield accepted[0], client
            done.set()


@asynccontextmanager
async def transports(kind: str) -> AsyncGenerator[Transports]:
    """Open a pair by its name: `memory`, `lockstep` or `websocket`."""
    if kind == "websocket":
        async with over_websocket() as pair:
            yield pair
    else:
        yield in_memory() if kind == "memory" else in_lockstep()


KINDS = ["memory", "lockstep", "websocket"]


@dataclass
class Ends:
    """A link at each end."""

    near: Link
    far: Link
    frames: list[Frame] = field(default_factory=list)
    """What the far end has received."""

    @property
    def heard(self) -> list[str]:
        """The same in words."""
        return [show_frame(each) for each in self.frames]


def linked(pair: Transports) -> Ends:
    """Put a link on each transport."""
    return Ends(Link(pair[0], name="near"), Link(pair[1], name="far"))


@dataclass
class Joined:
    """An opener and an answerer that run."""

    opener: Opener
    answerer: Answerer

    def open(self, body: bytes = b"", *, end: bool = True, target: bytes = b"/hook") -> Exchange:
        """Open an exchange."""
        return self.opener.open(ROUTE, request(target), body=body, end=end)

    async def settled(self) -> None:
        """Wait until no exchange is left at either end."""
        await until(lambda: not (self.opener.active or self.answerer.active or self.answerer.running))


@asynccontextmanager
async def joined(
    handler: Handler, kind: str | Transports = "memory", *, most: int = 256, most_answered: int = 256
) -> AsyncGenerator[Joined]:
    """Run an opener and, with `handler`, an answerer; both tables must be empty when the block has ended."""
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(transports(kind)) if isinstance(kind, str) else kind
        opener = Opener(Link(pair[0], name="opener"), max_exchanges=most)
        answerer = Answerer(Link(pair[1], name="answerer"), handler, max_exchanges=most_answered)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opener.run)
            nursery.start_soon(answerer.run)
            yield Joined(opener, answerer)
            opener.link.close("the test has ended")
            answerer.link.close("the test has ended")
    assert not opener.endpoint.streams
    assert not answerer.endpoint.streams
    assert not answerer.running


async def respond(exchange: Exchange, status: int = 200, body: bytes = b"", *, end: bool = True) -> None:
    """Answer with a head and a body."""
    exchange.send_head(Response(status, b"", []), end=end and not body)
    if body:
        await exchange.send_data(body, end=end)


async def read_body(exchange: Exchange) -> tuple[bytes, Headers]:
    """Receive data to the end, under the deadline; give it and the trailers."""
    pieces: list[bytes] = []
    with trio.fail_after(DEADLINE):
        while True:
            item = await exchange.receive()
            if isinstance(item, Data):
                pieces.append(item.data)
            if item.ended:
                return b"".join(pieces), item.trailers if isinstance(item, End) else []


async def read_head(exchange: Exchange) -> Head:
    """Receive a head, under the deadline."""
    with trio.fail_after(DEADLINE):
        item = await exchange.receive()
    assert isinstance(item, Head)
    return item


async def read(exchange: Exchange) -> tuple[list[int], bytes, Headers]:
    """Receive a whole response: the statuses of its heads, its body, its trailers."""
    statuses: list[int] = []
    while True:
        head = await read_head(exchange)
        statuses.append(head.response.status)
        if head.ended:
            return statuses, b"", []
        if head.response.status >= 200:
            return statuses, *(await read_body(exchange))


async def reset_of(exchange: Exchange) -> ExchangeReset:
    """Receive until the exchange is reset, under the deadline."""
    try:
        with trio.fail_after(DEADLINE):
            while True:
                await exchange.receive()
    except ExchangeReset as reset:
        return reset


async def echo(exchange: Exchange) -> None:
    """Send the request's body back as it comes."""
    exchange.send_head(Response(200, b"", []), end=exchange.request_ended)
    ended = exchange.request_ended
    while not ended:
        item = await exchange.receive()
        ended = item.ended
        if isinstance(item, Data):
            await exchange.send_data(item.data, end=item.ended)
        elif isinstance(item, End):
            exchange.send_end(item.trailers)
