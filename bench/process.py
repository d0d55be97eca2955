"""Child processes of a measurement: started, read line by line, measured from /proc, always ended and reaped.

Called by the scenarios. It keeps the children's standard error in a file and shows its end when one fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PATIENCE = 60.0
"""Seconds to wait for any one line of a child before the measurement is given up."""


class BenchError(Exception):
    """The measurement cannot be trusted or cannot go on."""


class Child:
    """A child process that speaks JSON lines on standard output."""

    def __init__(
        self, *args: str, name: str, env: dict[str, str] | None = None, program: str = sys.executable
    ) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            [program, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | (env or {}),
        )
        assert self._process.stdout is not None
        self._out = self._process.stdout
        self._buffer = b""
        os.set_blocking(self._out.fileno(), False)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if exc is not None:
            exc.add_note(f"{self.name} said:\n{self.complaints()}")
        self._errors.close()
        self._out.close()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def complaints(self) -> str:
        """Give the end of the child's standard error."""
        self._errors.seek(0)
        return self._errors.read()[-4000:]

    def line(self, patience: float = PATIENCE) -> str:
        """Read the next line; raises BenchError when none comes."""
        ends = time.monotonic() + patience
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, ends - time.monotonic())):
                    raise BenchError(f"{self.name}: no word within {patience:g} s\n{self.complaints()}")
                data = os.read(self._out.fileno(), 65_536)
                if not data:
                    raise BenchError(f"{self.name} ended\n{self.complaints()}")
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def message(self, patience: float = PATIENCE) -> dict[str, Any]:
        """Read lines up to the next JSON object."""
        while True:
            try:
                value = json.loads(self.line(patience))
            except ValueError:
                continue
            if isinstance(value, dict):
                return value

    def drain(self) -> None:
        """Throw away what it says from now on, so that it never has to wait until somebody reads it."""

        def read() -> None:
            os.set_blocking(descriptor, True)
            with contextlib.suppress(OSError):
                while os.read(descriptor, 1 << 20):
                    pass
            os.close(descriptor)

        descriptor = os.dup(self._out.fileno())
        threading.Thread(target=read, name=f"drain {self.name}", daemon=True).start()

    def tell(self, line: str = "") -> None:
        """Write one line to the child's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def cpu(self) -> float:
        """Seconds of CPU that the child has used in all its threads, user and system."""
        return cpu_of(self.pid)

    def resident(self) -> int:
        """Bytes of the child's resident memory."""
        return resident_of(self.pid)


def cpu_of(pid: int, *, family: bool = False) -> float:
    """Seconds of CPU that a process has used, user and system; with `family` its children count too.

    Children that have ended count if their parent has waited for them.
    """
    fields = _stat(pid)
    used = int(fields[11]) + int(fields[12])
    if family:
        used += int(fields[13]) + int(fields[14])
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # ended meanwhile
                if folder.name.isdigit() and int(_stat(int(folder.name))[1]) == pid:
                    used += round(cpu_of(int(folder.name)) * TICK)
    return used / TICK


def resident_of(pid: int) -> int:
    """Bytes of a process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
