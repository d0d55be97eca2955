"""Redis as this folder sees it: calls that have a deadline, and a feed of what is published.

Owns the asyncio loop in which redis-py lives, and its connections. This module alone imports redis and
trio_asyncio; directory, bus and queue call it. Whatever keeps Redis from answering leaves it as Unavailable,
so that no caller knows redis-py's errors. It must never repeat a call by itself: it cannot know whether the
first took effect.
"""

from __future__ import annotations

import asyncio
import math
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from whook.backplane.ports import Unavailable
from whook.backplane.redis.scripts import Script

with warnings.catch_warnings():
    # It subclasses something of asyncio that goes away in Python 3.14, which whook does not run on.
    warnings.simplefilter("ignore", DeprecationWarning)
    import trio_asyncio

CALL_SECONDS = 2.0
"""How long a call may take, with connecting and with waiting for its turn, before it fails with
Unavailable."""

CONNECTIONS = 8
"""Calls under way at once, each on a connection of its own. A call costs this process about 150 µs of CPU and
Redis less, so more of them would only queue for the interpreter."""

CLOSE_SECONDS = 1.0
"""What closing the connections may take."""

RESOLVER_THREADS = 4
"""Threads that may hang at a name server at once."""

FEED_TURN = 32
"""Messages read from a feed before other tasks get their turn: under 1 ms."""

Argument = str | bytes | int
Message = list[bytes]
"""What a feed yields: kind (``pmessage``, ``pong``) and what belongs to it."""


class _ResolverThreads(trio_asyncio.TrioExecutor):  # type: ignore[misc]
    """The threads in which asyncio resolves names: given up when the call that needs one has timed out.

    Otherwise a name server that does not answer would keep the loop from closing.
    """

    async def submit(self, func: Callable[..., Any], *args: Any) -> Any:
        return await trio.to_thread.run_sync(func, *args, abandon_on_cancel=True, limiter=self._limiter)


class Feed:
    """A connection on which everything published to the channels of one pattern arrives."""

    def __init__(self, loop: trio_asyncio.TrioEventLoop, connection: AbstractConnection) -> None:
        self._loop = loop
        self._connection = connection

    async def read(self, deliver: Callable[[Message], None]) -> None:
        """Hand every message to ``deliver`` until the connection is lost, which raises Unavailable.

        ``deliver`` is called between asyncio's steps: it may wake Trio tasks, but not wait.
        """
        with _outages_told():
            await self._loop.run_aio_coroutine(_read_feed(self._connection, deliver))

    async def ping(self, payload: bytes) -> None:
        """Ask for a ``pong`` with this payload: it arrives in `read`, behind all that was published before.

        For one task at a time. If it is cancelled the feed is lost. Raises Unavailable.
        """
        with _outages_told(), trio.fail_after(CALL_SECONDS):
            await self._loop.run_aio_coroutine(_ping(self._connection, payload))


Config = dict[str, str]
"""Settings of Redis by their names."""


class Bridge:
    """Calls to one Redis."""

    def __init__(
        self, loop: trio_asyncio.TrioEventLoop, make: Callable[[], AbstractConnection], connections: int
    ) -> None:
        self._loop = loop
        self._make = make
        self._turns = trio.CapacityLimiter(connections)
        self._idle: list[AbstractConnection] = []
        self._passed: set[AbstractConnection] = set()
        """Those whose Redis has passed the check of its settings since they were opened."""

    async def run(self, script: Script, *arguments: Argument) -> list[bytes]:
        """Run a script and return what it returns. Raises Unavailable; it may then have run or not."""
        reply: list[bytes] = await self._call(_run_script, script, arguments)
        return reply

    async def run_checked(
        self, script: Script, *arguments: Argument, patterns: Sequence[str], check: Callable[[Config], None]
    ) -> list[bytes]:
        """Do as `run`, but only where ``check`` does not raise at the settings that match the patterns.

        They are read once for each connection, hence again from a Redis that has restarted, and each time
        while they do not pass. ``check`` gets no settings at all where they may not be read.
        """

        async def call(connection: AbstractConnection) -> Any:
            await _connect(connection)
            if connection not in self._passed:
                check(await _config(connection, patterns))
                self._passed.add(connection)
            return await _exchange_script(connection, script, arguments)

        reply: list[bytes] = await self._call(call)
        return reply

    async def publish(self, channel: bytes, message: bytes) -> None:
        """Publish a message. Raises Unavailable; it may then have been published or not."""
        await self._call(_command, "PUBLISH", channel, message)

    async def command(self, *command: Argument) -> Any:
        """Send one command and return the reply. Raises Unavailable; it may then have been done or not."""
        return await self._call(_command, *command)

    @asynccontextmanager
    async def open_feed(self, pattern: bytes) -> AsyncGenerator[Feed, None]:
        """Open a feed of all channels that match the pattern. Raises Unavailable."""
        connection = self._make()
        try:
            with _outages_told(), trio.fail_after(CALL_SECONDS):
                await self._loop.run_aio_coroutine(_subscribe(connection, pattern))
            yield Feed(self._loop, connection)
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._loop.run_aio_coroutine(_disconnect([connection]))

    async def close(self) -> None:
        """Close all connections; nobody may call any more."""
        await self._loop.run_aio_coroutine(_disconnect(self._idle))

    def _new(self) -> AbstractConnection:
        connection = self._make()
        connection.register_connect_callback(self._connected)  # type: ignore[no-untyped-call]
        return connection

    def _connected(self, connection: AbstractConnection) -> None:
        self._passed.discard(connection)

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        with _outages_told(), trio.fail_after(CALL_SECONDS):
            async with self._turns:
                # The one used last: those that are rarely needed stay idle.
                connection = self._idle.pop() if self._idle else self._new()
                try:
                    return await self._loop.run_aio_coroutine(function(connection, *args))
                finally:
                    # Whatever went wrong on it, redis-py has closed it, and the next call connects anew.
                    self._idle.append(connection)


@asynccontextmanager
async def open_bridge(url: str, *, connections: int = CONNECTIONS) -> AsyncGenerator[Bridge, None]:
    """Open the asyncio loop for as long as the context is open. Redis need not be there yet.

    ``connections`` is how many calls may be under way at once. Raises ValueError for a URL that cannot be
    used.
    """
    make = _connection_maker(url)
    async with trio_asyncio.open_loop() as loop:
        loop.set_default_executor(_ResolverThreads(max_workers=RESOLVER_THREADS))
        bridge = Bridge(loop, make, connections)
        try:
            yield bridge
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await bridge.close()


def _connection_maker(url: str) -> Callable[[], AbstractConnection]:
    try:
        given: dict[str, Any] = {**parse_url(url)}
        kind: Callable[..., AbstractConnection] = given.pop("connection_class", Connection)
        options = given | {
            # Replies look alike on every version of Redis, and the feed is a plain list of messages.
            "protocol": 2,
            "decode_responses": False,
            # Deadlines and retries are Trio's business.
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": None,
            "retry_on_timeout": False,
            "health_check_interval": 0,
            # Known to Redis 7.2 and later; elsewhere two errors for each connection.
            "driver_info": None,
        }
        kind(**options)
    except (ValueError, TypeError, RedisError):
        # Without the cause, which may quote a part of the password.
        raise ValueError(
            "cannot use the URL of Redis: give redis://user:password@host:port/database, rediss://… for TLS, "
            "or unix:///path; in user and password, percent-encode what is not a letter or a digit"
        ) from None
    return lambda: kind(**options)


@contextmanager
def _outages_told() -> Generator[None, None, None]:
    try:
        yield
    except trio.TooSlowError:
        raise Unavailable(f"Redis has not answered within {CALL_SECONDS:g} s") from None
    except (RedisError, OSError) as error:
        raise Unavailable(f"Redis does not answer: {error}") from error


# What follows runs in asyncio's world. A connection that fails or is cancelled while it waits for an answer
# is closed by redis-py itself, so no late answer can ever be taken for that of the next call.


async def _connect(connection: AbstractConnection) -> None:
    if connection.is_connected and await connection.can_read():
        # Closed by Redis while it was idle.
        await connection.disconnect(nowait=True)
    if not connection.is_connected:
        await connection.connect()  # type: ignore[no-untyped-call]


async def _exchange(connection: AbstractConnection, *command: Argument) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response()


async def _command(connection: AbstractConnection, *command: Argument) -> Any:
    await _connect(connection)
    return await _exchange(connection, *command)


async def _run_script(connection: AbstractConnection, script: Script, arguments: tuple[Argument, ...]) -> Any:
    await _connect(connection)
    return await _exchange_script(connection, script, arguments)


async def _exchange_script(
    connection: AbstractConnection, script: Script, arguments: tuple[Argument, ...]
) -> Any:
    try:
        return await _exchange(connection, "EVALSHA", script.digest, 0, *arguments)
    except NoScriptError:
        # Since Redis has (re)started nobody has run it: EVAL runs and keeps it.
        return await _exchange(connection, "EVAL", script.text, 0, *arguments)


async def _config(connection: AbstractConnection, patterns: Sequence[str]) -> Config:
    found: Config = {}
    for pattern in patterns:
        try:
            reply: list[bytes] = await _exchange(connection, "CONFIG", "GET", pattern)
        except ResponseError:
            return {}  # not for this user, or not on this Redis
        found.update(zip(map(bytes.decode, reply[::2]), map(bytes.decode, reply[1::2]), strict=True))
    return found


async def _subscribe(connection: AbstractConnection, pattern: bytes) -> None:
    await connection.connect()  # type: ignore[no-untyped-call]
    await connection.send_command("PSUBSCRIBE", pattern, check_health=False)
    await connection.read_response()


async def _read_feed(connection: AbstractConnection, deliver: Callable[[Message], None]) -> None:
    while True:
        for _ in range(FEED_TURN):
            message: Any = await connection.read_response(timeout=math.inf)
            deliver(message)
        await asyncio.sleep(0)


async def _ping(connection: AbstractConnection, payload: bytes) -> None:
    if not connection.is_connected:
        raise RedisConnectionError("the connection was lost")
    await connection.send_command("PING", payload, check_health=False)


async def _disconnect(connections: list[AbstractConnection]) -> None:
    for connection in connections:
        await connection.disconnect(nowait=True)
