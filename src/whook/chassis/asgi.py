"""Serves ASGI applications (the JSON APIs and the admin endpoints), bounded in every direction.

Services call serve_asgi with their FastAPI app. It drives hypercorn's HTTP/1.1 connections over our own
listener and stream, because hypercorn's own server waits without limit for a client that has stopped
reading, also while shutting down. Webhooks never come through here: they are too expensive in ASGI and lose
their form in it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext

from whook.chassis import metrics
from whook.chassis.drain import Drain
from whook.chassis.logs import get_logger
from whook.chassis.problem import CONTENT_TYPE, problem, raw_response
from whook.chassis.tcp import Peer, TcpLimits, serve_tcp

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI 3 application, called with scope, receive and send."""

SEND_PIECE = 65_536
"""Bytes that a client must take within the send timeout: a slow client is no stalled one."""
SWALLOW = 1.0
"""Seconds for which a finished response waits for the rest of a body that nobody wants."""

_log = get_logger("whook.asgi")


@dataclass(frozen=True, slots=True)
class AsgiLimits:
    """Bounds of one server. Sizes in bytes, times in seconds."""

    connections: int = 1_000
    per_address: int | None = 256
    head: int = 65_536
    body: int = 1_048_576
    """Largest request body: it may be held in memory whole."""
    body_timeout: float = 30.0
    """Time for a request's body to arrive."""
    idle_timeout: float = 20.0
    """Time without a request, and for a request's head to arrive."""
    send_timeout: float = 20.0
    """Time for a client to take SEND_PIECE bytes."""


async def serve_asgi(
    app: App,
    listeners: Sequence[trio.SocketListener],
    *,
    name: str,
    drain: Drain,
    limits: AsgiLimits | None = None,
    task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` over HTTP/1.1 until the drain is over; ``name`` labels logs and metrics.

    The app is cancelled when the client goes away before its response is complete. What the app raises is
    logged, and answered with a problem if no response has begun. Lifespan events are not sent: resources
    belong to the service's own nursery. When the drain begins, the listeners and idle connections are
    closed and requests may finish until its deadline, also when their client has stopped reading. Raises
    OSError if a listener breaks.
    """
    limits = limits or AsgiLimits()
    config = _config(limits)
    context = WorkerContext(None)
    streams: set[_BoundedStream] = set()
    requests = metrics.counter(
        "whook_api_requests",
        "Requests to an API, by status (0: the client went away).",
        ["listener", "status"],
    )

    durations = metrics.Durations()

    def count(status: int, seconds: float) -> None:
        requests.labels(name, str(status)).inc()
        durations.observe(seconds)

    async def handle(stream: trio.SocketStream, _peer: Peer) -> None:
        bounded = _BoundedStream(stream, limits.send_timeout)
        streams.add(bounded)
        try:
            wrapped = cast("Any", _Wrapper(app, bounded, limits, count))
            await TCPServer(wrapped, config, context, {}, cast("Any", bounded)).run()
        finally:
            streams.discard(bounded)

    meaning = "From a request's head to the end of the response, of an API."
    published = metrics.watch_durations("whook_api_request_seconds", meaning, durations, listener=name)
    with published:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_connections, drain, context, streams)
            async with trio.open_nursery() as serving:
                await serving.start(
                    partial(
                        serve_tcp,
                        handle,
                        listeners,
                        name=name,
                        drain=drain,
                        limits=TcpLimits(limits.connections, limits.per_address),
                        refusal=_REFUSAL,
                    )
                )
                task_status.started(list(listeners))
            nursery.cancel_scope.cancel(reason="every connection has ended")


_REFUSAL = raw_response(
    503, problem(503, "overloaded", detail="Too many connections."), [(b"Retry-After", b"1")]
)


def _config(limits: AsgiLimits) -> Config:
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    config.include_server_header = False
    config.keep_alive_timeout = limits.idle_timeout
    config.h11_max_incomplete_size = limits.head
    config.websocket_max_message_size = limits.body
    return config


async def _end_connections(drain: Drain, context: WorkerContext, streams: set[_BoundedStream]) -> None:
    """End idle connections when the drain begins, and all that are left at its deadline or when cancelled.

    Cancelling is not enough for these: hypercorn shields its sends. Closing the socket ends them.
    """
    try:
        await drain.wait()
        await context.terminated.set()
        await trio.sleep_until(drain.deadline)
    finally:
        for stream in tuple(streams):
            stream.kill()


class _BoundedStream:
    """What hypercorn uses of a trio.SocketStream, with a deadline on sending."""

    def __init__(self, stream: trio.SocketStream, send_timeout: float) -> None:
        self.socket = stream.socket
        self._stream = stream
        self._send_timeout = send_timeout
        self.receive_some = stream.receive_some
        self.send_eof = stream.send_eof
        self.aclose = stream.aclose

    async def send_all(self, data: bytes) -> None:
        """Send ``data``. Raises trio.BrokenResourceError if the client does not take it in time."""
        try:
            for start in range(0, len(data), SEND_PIECE):
                with trio.fail_after(self._send_timeout):
                    await self._stream.send_all(data[start : start + SEND_PIECE])
        except trio.TooSlowError as error:
            self.kill()
            raise trio.BrokenResourceError("the client has stopped reading") from error

    def kill(self) -> None:
        """Close the socket at once; whoever uses it gets trio.ClosedResourceError."""
        self.socket.close()


class _Wrapper:
    """The application of one connection, in the form in which hypercorn calls it."""

    def __init__(
        self, app: App, stream: _BoundedStream, limits: AsgiLimits, count: Callable[[int, float], None]
    ) -> None:
        self._app = app
        self._stream = stream
        self._limits = limits
        self._count = count

    async def __call__(self, scope: Any, receive: Any, send: Any, _sync_spawn: Any, _call_soon: Any) -> None:
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["http_version"] in {"1.0", "1.1"}:
            exchange = _Exchange(self._limits, receive, send)
            began = trio.current_time()
            try:
                await exchange.run(self._app, scope)
            finally:
                self._count(exchange.status, trio.current_time() - began)
            if not exchange.finished:
                self._stream.kill()  # the only way to tell the client that its response ends too early
        else:
            # HTTP/2 without TLS: no client of ours speaks it, and its flow control is not bounded here.
            self._stream.kill()


class _Exchange:
    """One request and its response, between hypercorn and the app.

    A pump takes everything hypercorn has to say as soon as it says it, so that neither an unread body can
    block the connection nor a disconnect go unnoticed. The size limit bounds what it holds.
    """

    def __init__(self, limits: AsgiLimits, receive: Receive, send: Send) -> None:
        self.status = 0
        self.finished = False
        self._limits = limits
        self._receive = receive
        self._send = send
        self._body = bytearray()
        self._size = 0
        self._arrived = False
        self._handed_over = False
        self._disconnected = False
        self._refusal: tuple[int, str] | None = None
        self._changed = trio.lowlevel.ParkingLot()

    async def run(self, app: App, scope: Any) -> None:
        """Run the app and see that there is an answer."""
        async with trio.open_nursery() as nursery:
            app_scope = trio.CancelScope()
            nursery.start_soon(self._pump, app_scope)
            try:
                with app_scope:
                    await app(scope, self.receive, self.send)
            except* Exception:  # noqa: BLE001
                _log.exception("request failed", method=scope["method"], path=scope["path"])
            if not self.status and not self._disconnected:
                await self._answer()
            nursery.cancel_scope.cancel(reason="request is over")

    async def receive(self) -> Message:
        """Give the app the body in pieces, then http.disconnect once the exchange is over."""
        await trio.lowlevel.checkpoint()
        while True:
            if self._body or (self._arrived and not self._handed_over):
                body = bytes(self._body)
                self._body.clear()
                self._handed_over = self._arrived
                return {"type": "http.request", "body": body, "more_body": not self._arrived}
            if self._disconnected:
                return {"type": "http.disconnect"}
            await self._changed.park()

    async def send(self, message: Message) -> None:
        """Pass on what the app answers."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            # Set first: sending the last part is what makes hypercorn report the disconnect.
            self.finished = True
            await self._swallow()
        await self._send(message)

    async def _pump(self, app_scope: trio.CancelScope) -> None:
        with trio.move_on_after(self._limits.body_timeout):
            while not self._arrived and not self._disconnected:
                self._take(await self._receive(), app_scope)
        if not self._arrived and not self._disconnected:
            self._refuse(408, "body-timeout", app_scope)
        while not self._disconnected:
            self._take(await self._receive(), app_scope)

    def _take(self, message: Message, app_scope: trio.CancelScope) -> None:
        if message["type"] == "http.disconnect":
            self._disconnected = True
            if not self.finished:
                app_scope.cancel(reason="the client went away")
        else:
            self._arrived = not message.get("more_body", False)
            body = message.get("body", b"")
            self._size += len(body)
            if self._size > self._limits.body:
                self._body.clear()
                self._refuse(413, "body-too-large", app_scope)
            else:
                self._body += body
        self._changed.unpark_all()

    def _refuse(self, status: int, slug: str, app_scope: trio.CancelScope) -> None:
        if self._refusal is None and not self.finished:
            self._refusal = (status, slug)
            app_scope.cancel(reason=slug)

    async def _swallow(self) -> None:
        """Wait a moment for the rest of the body.

        hypercorn closes the connection if the response is over first, and the client may lose the response.
        """
        if self._refusal is not None and self._refusal[0] == 408:
            return  # it was waited for long enough
        with trio.move_on_after(SWALLOW):
            while not self._arrived and not self._disconnected:
                await self._changed.park()

    async def _answer(self) -> None:
        """Answer for an app that has not."""
        status, slug = self._refusal or (500, "internal-error")
        await self._swallow()
        body = problem(status, slug)
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
        ]
        if not self._arrived:
            headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
