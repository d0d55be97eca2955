"""The far end of a tunnel, for tests of the client: the real link over real sockets, without a server.

`linked` joins a handler to an `Opener` by one TCP connection. `FarEnd` is a relay as far as a client can see
one: it accepts WebSockets, answers introductions, and lets the test open exchanges on what it accepted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from tests.support.deadlines import DEADLINE
from tests.support.links import open_handshake
from whook.link import Answerer, Exchange, Link, LinkClosed, Opener, StreamTransport
from whook.wire import (
    PROTOCOL_VERSION,
    DataReceived,
    GoAway,
    Headers,
    HeadReceived,
    Hello,
    Request,
    Response,
    encode_goaway,
    encode_hello,
)

ROUTE = b"tun_1"


def request(
    method: bytes = b"POST", target: bytes = b"/hook", headers: Headers | None = None, event_id: str = "evt_1"
) -> Request:
    """Give a request head as the conductor would send it."""
    return Request(
        event_id=event_id,
        attempt=1,
        deadline_ms=30_000,
        scheme="http",
        client="192.0.2.1",
        method=method,
        target=target,
        headers=[(b"Host", b"shop.example")] if headers is None else headers,
    )


@dataclass(slots=True)
class Answered:
    """A whole response, as the conductor receives it."""

    heads: list[Response] = field(default_factory=list)
    body: bytes = b""
    trailers: Headers = field(default_factory=list)

    @property
    def head(self) -> Response:
        """The final head."""
        return self.heads[-1]

    @property
    def status(self) -> int:
        """Status of the final head."""
        return self.head.status


async def read(exchange: Exchange) -> Answered:
    """Receive a response to its end, under the deadline."""
    answered = Answered()
    pieces: list[bytes] = []
    with trio.fail_after(DEADLINE):
        ended = False
        while not ended:
            item = await exchange.receive()
            ended = item.ended
            if isinstance(item, HeadReceived):
                answered.heads.append(item.response)
            elif isinstance(item, DataReceived):
                pieces.append(item.data)
            else:
                answered.trailers = item.trailers
    answered.body = b"".join(pieces)
    return answered


@asynccontextmanager
async def linked(
    handler: Callable[[Exchange], Awaitable[None]], *, max_exchanges: int = 256
) -> AsyncGenerator[Opener]:
    """Run `handler` at one end of a link, and give the other end; both are closed at the end of the block."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    near = await trio.open_tcp_stream("127.0.0.1", listeners[0].socket.getsockname()[1])
    far = await listeners[0].accept()
    await listeners[0].aclose()
    opener = Opener(Link(StreamTransport(far), name="far"))
    answerer = Answerer(Link(StreamTransport(near), name="near"), handler, max_exchanges=max_exchanges)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opener.run)
        nursery.start_soon(answerer.run)
        yield opener
        nursery.cancel_scope.cancel()


class Accepted:
    """One tunnel that a client has opened."""

    def __init__(self, link: Link, hello: Hello, headers: dict[str, str]) -> None:
        self.hello = hello
        self.headers = headers
        self.opener = Opener(link, on_goaway=lambda _: self.left.set())
        self.left = trio.Event()
        """The client has said that it takes no more."""
        self.closed = trio.Event()

    def goaway(self, code: int, message: str = "", retry_after: float = 0.0) -> None:
        """Announce that this tunnel takes no new exchanges."""
        self.opener.link.send(encode_goaway(code, message, retry_after))

    def open(self, sent: Request, body: bytes = b"") -> Exchange:
        """Open an exchange with a request that is here whole."""
        return self.opener.open(ROUTE, sent, body=body, end=True)


class FarEnd:
    """What a relay is to a client; see `open_far_end`."""

    def __init__(self, port: int) -> None:
        self.url = f"ws://127.0.0.1:{port}/v1/tunnel"
        self.refuse: GoAway | None = None
        """Answer the next introductions with this."""
        self.reject: tuple[int, list[tuple[bytes, bytes]], bytes] | None = None
        """Answer the next handshakes with this HTTP status, headers and body."""
        self.tunnels: list[Accepted] = []
        self.handshakes = 0
        self._changed = trio.Condition()

    async def wait_tunnel(self, number: int) -> Accepted:
        """Give the tunnel that was accepted as number `number`, counted from 0."""
        await self._wait(lambda: len(self.tunnels) > number)
        return self.tunnels[number]

    async def wait_handshakes(self, count: int) -> None:
        """Wait until so many handshakes have been begun."""
        await self._wait(lambda: self.handshakes >= count)

    async def _wait(self, look: Callable[[], bool]) -> None:
        with trio.fail_after(DEADLINE):
            async with self._changed:
                while not look():
                    await self._changed.wait()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Handle one connection of a client."""
        try:
            async with open_handshake(stream, timeout=DEADLINE) as handshake:
                async with self._changed:
                    self.handshakes += 1
                    self._changed.notify_all()
                if self.reject is not None:
                    await handshake.reject(*self.reject)
                    return
                headers = handshake.headers  # accepting forgets them
                link = Link(await handshake.accept(), name="far")
                hello = await link.receive_hello()
                if self.refuse is not None:
                    refusal = self.refuse
                    await link.send_now(encode_goaway(refusal.code, refusal.message, refusal.retry_after))
                    return
                ours = Hello(
                    version=PROTOCOL_VERSION, agent="test", peer="relay", tunnel_id="tun_1", heartbeat=20.0
                )
                await link.send_now(encode_hello(ours))
                accepted = Accepted(link, hello, headers)
                async with self._changed:
                    self.tunnels.append(accepted)
                    self._changed.notify_all()
                await accepted.opener.run()
                accepted.closed.set()
        except* LinkClosed:
            pass


@asynccontextmanager
async def open_far_end() -> AsyncGenerator[FarEnd]:
    """Accept tunnels on a free port of this machine until the block ends."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    far_end = FarEnd(listeners[0].socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, far_end.serve, listeners)
        yield far_end
        nursery.cancel_scope.cancel()
