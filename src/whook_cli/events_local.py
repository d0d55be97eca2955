"""A replay to a URL: the stored request sent to a local server by the client's own forwarder.

Used by `events_replay`. The forwarder serves exchanges of a tunnel, so there is one here, within the process:
a link over a pair of sockets, its opener played by this module. What the local server gets is therefore what
it got through the tunnel, and what it may do wrong is handled as there.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

from whook.http1 import hop_by_hop
from whook.link import Answerer, Exchange, ExchangeReset, Link, LinkClosed, Opener, StreamTransport
from whook.wire import DATA_CHUNK, Request
from whook_cli.display import Display
from whook_cli.events_api import Event
from whook_cli.events_message import Message
from whook_cli.forward import Forwarder
from whook_cli.pool import open_pool
from whook_cli.records import RequestRecord
from whook_cli.target import Target

_ROUTE: Final = b"replay"
_DEADLINE_MS: Final = 30_000
"""What the local server is given to begin its answer, as in a delivery through the tunnel."""


class LocalSender:
    """Sends requests to one local server; see `open_sender`."""

    def __init__(self, opener: Opener, display: Display) -> None:
        self._opener = opener
        self._display = display
        self._record: RequestRecord | None = None
        self.forwarder: Forwarder | None = None

    async def send(self, event: Event, message: Message) -> bool:
        """Send one request and wait for its answer, which is shown; return whether there was one."""
        headers = hop_by_hop(message.headers, upgrade=False)
        headers += [(b"Whook-Event-Id", event.id.encode("ascii")), (b"Whook-Replay", b"1")]
        request = Request(
            event.id, 1, _DEADLINE_MS, "http", event.peer, message.method, message.target, headers
        )
        body = message.body
        first = body if len(body) <= DATA_CHUNK else b""
        whole = len(first) == len(body) and not message.trailers
        self._record = None
        try:
            exchange = self._opener.open(_ROUTE, request, body=first, end=whole)
        except (ValueError, LinkClosed) as error:
            self._display.status("warning", f"{event.id}: {error}", serious=True)
            return False
        with exchange, trio.move_on_after(_DEADLINE_MS / 1000) as patience:
            async with trio.open_nursery() as nursery:
                if not whole:
                    nursery.start_soon(_send_rest, exchange, b"" if first else body, message)
                await _read_answer(exchange, patience)
                nursery.cancel_scope.cancel(reason="answered")
        if patience.cancelled_caught:
            self._display.status("warning", f"{event.id}: no answer in time", serious=True)
        record = self._record
        return record is not None and not record.error and not patience.cancelled_caught

    async def handle(self, exchange: Exchange) -> None:
        """Forward one exchange and show what became of it; the far end of the link calls this."""
        assert self.forwarder is not None
        request = exchange.request
        started = time.perf_counter()
        record = RequestRecord(
            time.time(), request.event_id, 1, request.client, request.method, request.target, 0, 0.0, 0, 0
        )
        self._record = record
        try:
            await self.forwarder.forward(exchange, record)
        except ExchangeReset as reset:
            record.error = record.error or str(reset)
        finally:
            record.seconds = time.perf_counter() - started
            self._display.show(record)


async def _send_rest(exchange: Exchange, body: bytes, message: Message) -> None:
    try:
        if body:
            await exchange.send_data(body, end=not message.trailers)
        if message.trailers:
            exchange.send_end(message.trailers)
    except ExchangeReset:
        return  # whoever reads the answer is told


async def _read_answer(exchange: Exchange, patience: trio.CancelScope) -> None:
    try:
        while True:
            item = await exchange.receive()
            patience.deadline = trio.current_time() + _DEADLINE_MS / 1000
            if item.ended:
                return
    except ExchangeReset:
        return  # the record says why


@asynccontextmanager
async def open_sender(
    target: Target, display: Display, *, insecure: bool, rewrite_host: bool
) -> AsyncGenerator[LocalSender]:
    """Send to `target` while the block runs, showing each answer on `display`."""
    near, far = trio.socket.socketpair()
    async with open_pool(target, insecure=insecure) as pool, trio.open_nursery() as nursery:
        opener = Opener(Link(StreamTransport(trio.SocketStream(near)), name="replay"))
        sender = LocalSender(opener, display)
        sender.forwarder = Forwarder(pool, rewrite_host=rewrite_host, opened=lambda _: None)
        answerer = Answerer(Link(StreamTransport(trio.SocketStream(far)), name="forwarder"), sender.handle)
        nursery.start_soon(opener.run, name="replay")
        nursery.start_soon(answerer.run, name="forwarder")
        yield sender
        nursery.cancel_scope.cancel(reason="the replay is over")
