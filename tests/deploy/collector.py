"""A central collector of logs, with the files of deploy/logs and real programs: rsyslogd at both ends.

The one beside the daemons reads their output out of files and forwards it, the other writes what it gets.
Only folders, the port and the collector's name differ from what is shipped.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.support.cluster import free_ports
from tests.support.deadlines import DEADLINE
from tests.support.polling import wait_until
from tests.support.whook_process import WhookProcess

SHIPPED = Path(__file__).parents[2] / "deploy" / "logs" / "rsyslog"


def find_rsyslogd() -> str | None:
    """Return the program's path, None where it is not installed."""
    return shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin:/sbin")


@dataclass
class Collector:
    """The pipeline while it runs."""

    outputs: Path
    """Where daemons write: NAME.jsonl."""
    collected: Path
    """Where the collector writes: DAEMON.jsonl."""
    receiver: Rsyslog
    sender: Rsyslog

    def attach(self, name: str, process: WhookProcess) -> None:
        """Have all that a process says on standard error, before and from now on, go to the collector."""
        process.copy_errors(self.outputs / f"{name}.jsonl")

    def lines(self) -> list[dict[str, Any]]:
        """All lines that have arrived."""
        found: list[dict[str, Any]] = []
        for path in sorted(self.collected.glob("*.jsonl")):
            whole = path.read_text("utf-8").rpartition("\n")[0]  # what follows is being written
            found.extend(json.loads(line) for line in whole.splitlines())
        return found

    def wait_line(self, **values: object) -> dict[str, Any]:
        """Wait for a line with these values."""

        def look() -> dict[str, Any] | None:
            return next((line for line in self.lines() if values.items() <= line.items()), None)

        return wait_until(look, f"a line with {values} at the collector")


class Rsyslog:
    """One rsyslogd."""

    def __init__(self, folder: Path, *parts: str) -> None:
        program = find_rsyslogd()
        assert program is not None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spool").mkdir(exist_ok=True)
        self._folder = folder
        self._configuration = folder / "rsyslog.conf"
        text = "\n".join((SHIPPED / part).read_text("utf-8") for part in parts)
        self._configuration.write_text(text.replace("/var/spool/rsyslog", str(folder / "spool")), "utf-8")
        self._command = [program, "-C", "-f", str(self._configuration)]
        self._process: subprocess.Popen[bytes] | None = None

    def replace(self, **places: str) -> None:
        """Put this machine's places into the configuration, for those that are shipped."""
        names = {"collector": "logs.example.com", "port": "6514", "folder": "/var/log/whook"}
        text = self._configuration.read_text("utf-8")
        for name, place in places.items():
            text = text.replace(names[name], place)
        self._configuration.write_text(text, "utf-8")

    def check(self) -> str:
        """Have rsyslogd check the configuration; give what it says, empty if nothing is wrong."""
        done = subprocess.run([*self._command, "-N1"], capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if "error" in line or "warning" in line]
        return "\n".join(said) if said or done.returncode else ""

    def start(self) -> None:
        """Start it."""
        command = [*self._command, "-n", "-i", str(self._folder / "pid")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        """End it as its supervisor would."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(DEADLINE)
        self._process.kill()
        self._process.wait(DEADLINE)
        self._process = None

    def story(self) -> str:
        """What it said."""
        return (self._folder / "log").read_text("utf-8", "replace")[-4_000:]


@contextmanager
def collector_processes(folder: Path) -> Iterator[Collector]:
    """Run the pipeline until the block ends; skips the test where rsyslogd is not installed."""
    if find_rsyslogd() is None:
        pytest.skip("rsyslogd is not installed")
    outputs, collected = folder / "outputs", folder / "collected"
    for place in (outputs, collected):
        place.mkdir(parents=True)
    (port,) = free_ports(1)
    receiver = Rsyslog(folder / "receiver", "global.conf", "collect.conf")
    receiver.replace(port=str(port), folder=str(collected))
    sender = Rsyslog(folder / "sender", "global.conf", "forward.conf", "input-files.conf")
    sender.replace(port=str(port), collector="127.0.0.1", folder=str(outputs))
    with ExitStack() as stack:
        for program in (receiver, sender):
            assert program.check() == ""
            stack.callback(program.stop)
            program.start()
        try:
            yield Collector(outputs, collected, receiver, sender)
        except BaseException as error:
            error.add_note(receiver.story() + sender.story())
            raise


@asynccontextmanager
async def running_collector(folder: Path) -> AsyncIterator[Collector]:
    """Do the same for a test that runs in Trio, whose event loop it does not hold up."""
    pipeline = collector_processes(folder)
    collector = await trio.to_thread.run_sync(pipeline.__enter__)
    try:
        yield collector
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 3 * DEADLINE):
            await trio.to_thread.run_sync(pipeline.__exit__, None, None, None)
