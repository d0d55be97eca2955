"""Redis as this folder sees it: calls that have a deadline, and a feed of what is published.

Owns the asyncio loop in which redis-py lives, and its connections. This module alone imports redis and
trio_asyncio; directory, bus, queue and journal call it. Whatever keeps Redis from answering leaves it as
Unavailable, so that no caller knows redis-py's errors. It must never repeat a call by itself: it cannot know
whether the first took effect.

Calls that come at the same time go out in one write and come back in one read ("pipelining"): crossing into
asyncio and back costs more than a call itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import warnings
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
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

CONNECTIONS = 4
"""Batches of calls under way at once, each on a connection of its own: more would only be smaller."""

BATCH = 64
"""Calls in one batch at most: Redis needs some 5 ms for as many claims, and serves others only after them."""

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


@dataclass(frozen=True, slots=True)
class Check:
    """What a Redis must be like for a call."""

    patterns: tuple[str, ...]
    """Which of its settings are looked at."""
    judge: Callable[[Config], None]
    """Raises Unavailable at settings that will not do. It gets none at all where they may not be read."""


class _Call:
    """A command, what else to send when Redis does not know its script, and what came of it."""

    __slots__ = ("alone", "check", "command", "otherwise", "over", "reply")

    def __init__(
        self,
        command: tuple[Argument, ...],
        otherwise: tuple[Argument, ...] = (),
        *,
        check: Check | None = None,
        alone: bool = False,
    ) -> None:
        self.command = command
        self.otherwise = otherwise
        self.check = check
        self.alone = alone
        self.reply: Any = None
        self.over = trio.Event()


class _Line:
    """A connection on which calls are made, and the checks that its Redis has passed since it was opened."""

    __slots__ = ("connection", "passed")

    def __init__(self, connection: AbstractConnection) -> None:
        self.connection = connection
        self.passed: set[Check] = set()


class Bridge:
    """Calls to one Redis."""

    def __init__(self, loop: trio_asyncio.TrioEventLoop, make: Callable[[], AbstractConnection]) -> None:
        self._loop = loop
        self._make = make
        self._waiting: deque[_Call] = deque()
        self._workers = trio.lowlevel.ParkingLot()

    async def run(self, script: Script, *arguments: Argument, check: Check | None = None) -> list[bytes]:
        """Run a script and return what it returns. Raises Unavailable; it may then have run or not.

        With a ``check`` only where Redis passes it. Its settings are read once for each connection, hence
        again from a Redis that has restarted, and each time while they do not pass.
        """
        digest, text = ("EVALSHA", script.digest, 0, *arguments), ("EVAL", script.text, 0, *arguments)
        call = _Call(digest, text, check=check)
        reply: list[bytes] = await self._call(call)
        return reply

    async def publish(self, channel: bytes, message: bytes) -> None:
        """Publish a message. Raises Unavailable; it may then have been published or not."""
        await self._call(_Call(("PUBLISH", channel, message)))

    async def command(self, *command: Argument, alone: bool = False) -> Any:
        """Send one command and return the reply. Raises Unavailable; it may then have been done or not.

        ``alone`` is for one that waits in Redis: nothing else is sent behind it on its connection.
        """
        return await self._call(_Call(command, alone=alone))

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

    async def work(self) -> None:
        """Make calls on a connection of its own, for ever. Some tasks run this."""
        line = _Line(self._make())
        try:
            while True:
                if not self._waiting:
                    await self._workers.park()
                    continue
                calls = self._take_calls()
                try:
                    with _outages_told(), trio.fail_after(CALL_SECONDS):
                        await self._loop.run_aio_coroutine(_make_calls(line, calls))
                except Unavailable as error:
                    # Whatever went wrong on it, redis-py has closed it, and the next call connects anew.
                    for call in calls:
                        if not call.over.is_set():
                            call.reply = error
                            call.over.set()
                    await trio.lowlevel.checkpoint()
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._loop.run_aio_coroutine(_disconnect([line.connection]))

    def _take_calls(self) -> list[_Call]:
        waiting = self._waiting
        calls = [waiting.popleft()]
        while waiting and len(calls) < BATCH and not (calls[0].alone or waiting[0].alone):
            calls.append(waiting.popleft())
        if waiting:
            self._workers.unpark()
        return calls

    async def _call(self, call: _Call) -> Any:
        self._waiting.append(call)
        self._workers.unpark()
        try:
            with _outages_told():
                with trio.fail_after(CALL_SECONDS):
                    await call.over.wait()
                if isinstance(call.reply, Exception):
                    raise call.reply
        finally:
            if not call.over.is_set():
                with contextlib.suppress(ValueError):  # it is under way: nobody wants its reply any more
                    self._waiting.remove(call)
        return call.reply


@asynccontextmanager
async def open_bridge(url: str) -> AsyncGenerator[Bridge, None]:
    """Open the asyncio loop for as long as the context is open. Redis need not be there yet.

    Raises ValueError for a URL that cannot be used.
    """
    make = _connection_maker(url)
    async with trio_asyncio.open_loop() as loop:
        loop.set_default_executor(_ResolverThreads(max_workers=RESOLVER_THREADS))
        bridge = Bridge(loop, make)
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS):
                nursery.start_soon(bridge.work, name="redis calls")
            yield bridge
            nursery.cancel_scope.cancel(reason="the backplane is closed")


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


async def _make_calls(line: _Line, calls: Sequence[_Call]) -> None:
    connection = line.connection
    if connection.is_connected and await connection.can_read():
        # Closed by Redis while it was idle.
        await connection.disconnect(nowait=True)
    if not connection.is_connected:
        line.passed.clear()
        await connection.connect()  # type: ignore[no-untyped-call]
    calls = [call for call in calls if call.check is None or await _passes(line, call, call.check)]
    if not calls:
        return
    packed = connection.pack_commands([call.command for call in calls])
    await connection.send_packed_command(packed, check_health=False)
    unknown: list[_Call] = []
    for call in calls:
        reply = await _read(connection)
        if isinstance(reply, NoScriptError):
            unknown.append(call)
        else:
            call.reply = reply
            call.over.set()
    for call in unknown:
        # Since Redis has (re)started nobody has run it: EVAL runs and keeps it.
        await connection.send_command(*call.otherwise, check_health=False)
        call.reply = await _read(connection)
        call.over.set()


async def _read(connection: AbstractConnection) -> Any:
    """Return a reply, or the error that it is; one of the connection is raised."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


async def _passes(line: _Line, call: _Call, check: Check) -> bool:
    """Tell whether Redis passes the call's check; if not, the call is over."""
    if check in line.passed:
        return True
    try:
        check.judge(await _config(line.connection, check.patterns))
    except Unavailable as error:
        call.reply = error
        call.over.set()
        return False
    line.passed.add(check)
    return True


async def _config(connection: AbstractConnection, patterns: Sequence[str]) -> Config:
    found: Config = {}
    for pattern in patterns:
        await connection.send_command("CONFIG", "GET", pattern, check_health=False)
        reply = await _read(connection)
        if isinstance(reply, Exception):
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
