"""The real `whook` command as a child process: started on free ports, read line by line, always reaped.

Its environment is empty of the developer's own settings: a home of its own, no WHOOK_ variables, no colour.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from tests.support.deadlines import DEADLINE, Changing

Event = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Launcher:
    """How a program is started where not by itself: a command before its own, and what is open to it."""

    command: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()


class WhookProcess:
    """One running `whook`; a context manager that kills what is still running and waits for it."""

    def __init__(
        self,
        *args: str,
        home: Path,
        env: dict[str, str] | None = None,
        module: str = "whook_cli",
        launcher: Launcher | None = None,
    ) -> None:
        """Start it; ``module`` is another program of the project, such as ``whook_relay.main``."""
        self.args = args
        self.home = home
        self.events: list[Event] = []
        self.output: list[str] = []
        """Lines of standard output that were no JSON objects."""
        self.errors: list[str] = []
        self._copy: IO[str] | None = None
        self._changing = Changing()
        self._open_pipes = 2
        home.mkdir(parents=True, exist_ok=True)
        launcher = launcher or Launcher()
        self._process = subprocess.Popen(
            [*launcher.command, sys.executable, "-m", module, *args],
            pass_fds=launcher.descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env=clean_environment(home) | (env or {}),
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._take_output), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stderr, self._take_error), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if exc is not None:
            exc.add_note(self.story())

    def kill(self) -> None:
        """SIGKILL it if it runs, and reap it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    def terminate(self) -> None:
        """Send SIGTERM once."""
        self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def stop(self, seconds: float = DEADLINE) -> int:
        """Send SIGTERM and wait for the end; gives the exit status."""
        self.terminate()
        return self.wait(seconds)

    def wait(self, seconds: float = DEADLINE) -> int:
        """Wait until it has ended by itself; gives the exit status."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"still running after {seconds} s\n{self.story()}") from None
        for reader in self._readers:
            reader.join(DEADLINE)
        return code

    def wait_event(self, kind: str, *, after: int = 0, seconds: float = DEADLINE, **values: object) -> Event:
        """Wait for the first JSON line at or after index `after` with this `event` and these values."""

        def look() -> Event | None:
            for event in self.events[after:]:
                if event.get("event") == kind and all(event.get(k) == v for k, v in values.items()):
                    return event
            return None

        return self._wait(look, f"event {kind!r} {values}", seconds)

    def wait_line(self, begins: str, *, seconds: float = DEADLINE) -> str:
        """Wait for the first line of standard output that begins so; gives the rest of it, stripped."""

        def look() -> str | None:
            return next((line.removeprefix(begins) for line in self.output if line.startswith(begins)), None)

        return self._wait(look, f"line {begins!r}", seconds).strip()

    def wait_log(self, *texts: str, after: int = 0, seconds: float = DEADLINE) -> str:
        """Wait for the first line of standard error, at or after index `after`, with all of this in it."""

        def look() -> str | None:
            return next((line for line in self.errors[after:] if all(text in line for text in texts)), None)

        return self._wait(look, f"log {texts}", seconds)

    def _wait(self, look: Callable[[], T | None], what: str, seconds: float) -> T:
        def look_or_fail() -> T | None:
            if (found := look()) is None and not self._open_pipes:
                raise AssertionError(f"ended without {what}\n{self.story()}")
            return found

        try:
            return self._changing.wait_for(look_or_fail, what, seconds)
        except TimeoutError as exc:
            exc.add_note(self.story())
            raise

    def story(self) -> str:
        """Everything it said, for the report of a failed test."""
        said = [json.dumps(event) for event in self.events[-40:]] + self.output[-40:] + self.errors[-60:]
        return "\n".join([f"whook {' '.join(self.args)} -> {self.returncode}", *said])

    def copy_errors(self, path: Path) -> None:
        """Write what it has said on standard error into a file, and from now on each line that it says."""
        with self._changing:
            self._copy = path.open("a", encoding="utf-8", buffering=1)
            self._copy.writelines(f"{line}\n" for line in self.errors)
            self._copy.flush()

    def _take_error(self, line: str) -> None:
        self.errors.append(line)
        if self._copy is not None:
            self._copy.write(f"{line}\n")

    def _take_output(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict):
            self.events.append(event)
        else:
            self.output.append(line)

    def _read(self, pipe: IO[str], take: Callable[[str], None]) -> None:
        with pipe:
            for line in pipe:
                with self._changing:
                    take(line.rstrip("\n"))
        with self._changing:
            self._open_pipes -= 1


def clean_environment(home: Path) -> dict[str, str]:
    """Give an environment in which nothing of the developer's settings is left."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHOOK_", "XDG_", "PYTEST_"))}
    return kept | {"HOME": str(home), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default"}
