"""Connections to the local server: opened, kept alive, checked before they are used again.

Owns every socket towards the `--forward` target. `forward` takes a connection, and gives it back or closes
it. Closing is synchronous, so that it can stand in a `finally`. Must never wait for a free connection: how
many there are is bounded by the exchanges in progress.
"""

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import trio

from whook.http1 import ResponseParser
from whook_cli.reasons import explain
from whook_cli.target import Target
from whook_cli.tls import local_context

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for connecting, name lookup and TLS included."""
IDLE_LIMIT: Final = 15.0
"""Seconds a connection is kept for the next request."""
MAX_IDLE: Final = 256
"""Connections kept at once: as many as there may be exchanges by default."""


class LocalUnreachable(Exception):
    """No connection to the local server; the text says why."""


class Connection:
    """One connection to the local server, and the parser of the responses that come over it."""

    __slots__ = ("_socket", "idle_since", "parser", "reused", "stream", "tls")

    def __init__(self, stream: trio.abc.Stream, raw: trio.SocketStream) -> None:
        self.stream = stream
        self._socket = raw.socket
        self.tls = stream is not raw
        self.parser = ResponseParser()
        self.reused = False
        self.idle_since = 0.0

    def close(self) -> None:
        """Close at once; may be called again."""
        self._socket.close()

    def is_stale(self) -> bool:
        """Whether the server has closed it, or said something unasked, while it was idle."""
        return self._socket.is_readable()

    async def send_eof(self) -> None:
        """Say that no more comes from here. Over TLS nothing can be said but by closing altogether."""
        if isinstance(self.stream, trio.SocketStream):
            await self.stream.send_eof()


class Pool:
    """Idle connections to one target, the one used last first; see `open_pool`."""

    def __init__(self, target: Target, *, insecure: bool) -> None:
        self.target = target
        self._idle: deque[Connection] = deque()
        self._tls = local_context(insecure=insecure) if target.tls else None

    def take(self) -> Connection | None:
        """Give a connection that is open and idle, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_stale():
                connection.reused = True
                return connection
            connection.close()
        return None

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose last exchange ended in order."""
        if len(self._idle) >= MAX_IDLE:
            self._idle.popleft().close()
        connection.idle_since = trio.current_time()
        self._idle.append(connection)

    async def connect(self) -> Connection:
        """Open a new connection. Raises `LocalUnreachable`."""
        target = self.target
        raw: trio.SocketStream | None = None
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                raw = await trio.open_tcp_stream(target.host, target.port)
                if self._tls is None:
                    return Connection(raw, raw)
                secure = trio.SSLStream(raw, self._tls, server_hostname=target.host, https_compatible=True)
                await secure.do_handshake()
                return Connection(secure, raw)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            if raw is not None:
                raw.socket.close()
            raise LocalUnreachable(f"cannot reach {target.url}: {explain(error)}") from error
        except trio.Cancelled:
            if raw is not None:
                raw.socket.close()
            raise

    async def sweep(self) -> None:
        """Close what has been idle for too long, for ever."""
        while True:
            await trio.sleep(IDLE_LIMIT / 3)
            self.close(trio.current_time() - IDLE_LIMIT)

    def close(self, idle_before: float = float("inf")) -> None:
        """Close the connections that are idle since before that time."""
        while self._idle and self._idle[0].idle_since < idle_before:
            self._idle.popleft().close()


@asynccontextmanager
async def open_pool(target: Target, *, insecure: bool) -> AsyncGenerator[Pool]:
    """Keep connections to `target` for as long as the block runs; close the idle ones at its end."""
    pool = Pool(target, insecure=insecure)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.sweep, name="local connections")
        try:
            yield pool
        finally:
            pool.close()
            nursery.cancel_scope.cancel()
