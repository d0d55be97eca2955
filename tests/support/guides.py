"""Runs the code blocks of a guide as its reader would: in a fresh folder, a shell for each terminal.

A comment in front of a fenced block says what it is. Blocks without one are no commands.

``<!-- run -->``            commands that end, one after the other; `console` blocks also say what is printed
``<!-- run: NAME -->``      the same in the terminal NAME, whose last command goes on running
``<!-- shown: NAME -->``    what terminal NAME prints next
``<!-- file: NAME -->``     the text of a file
``<!-- not run: WHY -->``   commands that a test cannot run

In what is printed, times, durations, ids and tokens match any other, runs of blanks each other, `…` anything
within a line, and a line of `…` any lines. `^C` interrupts what runs. Ports are those of the guide only for
the reader: free ones take their place in commands, and theirs in what was printed. In a command, `whk_…` and
`evt_…` are the ones that were printed last.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.support.deadlines import DEADLINE, Changing
from tests.support.whook_process import clean_environment

FENCED = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]+?) -->\n\n?)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
PORTS = re.compile(r"(?<![\d.\w])(3000|808[0-9]|909[0-9])(?!\w)")
DONE = "\x1e"
PROGRAMS = {
    "python3": "",
    "whook": "-m whook_cli",
    "whook-auth": "-m whook_auth.main",
    "whook-conductor": "-m whook_conductor.main",
    "whook-relay": "-m whook_relay.main",
}
LOOSE = [
    (r"\\…|…", ".*"),
    (r"\d{4}\\-\d\d\\-\d\d", r"\\d{4}-\\d\\d-\\d\\d"),
    (r"\d\d:\d\d:\d\d(\\\.\d+)?", r"\\d\\d:\\d\\d:\\d\\d[.\\d]*"),
    (r"\d+(?:\\\.\d+)?(?:\\ )(ms|s)\b", r"[\\d.]+ (?:ms|s|min)"),
    (r"\b(evt|prj|tun|tok|usr)_\w+", r"\1_\\w+"),
    (r"\bwhk_\w+", r"whk_\\w+"),
    (r"(?:\\ )+", r" +"),
]


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, and the comment in front of it."""

    mark: str
    kind: str
    text: str


def blocks(guide: Path) -> list[Block]:
    """Read the blocks of a guide, in order."""
    text = guide.read_text("utf-8")
    return [Block(found["mark"] or "", found["kind"], found["text"]) for found in FENCED.finditer(text)]


def pattern(line: str) -> re.Pattern[str]:
    """Turn a line that a guide shows into what may be printed in its place."""
    text = re.escape(line.rstrip()).replace("\\…", "…")
    for one, other in LOOSE:
        text = re.sub(one, other, text)
    return re.compile(text + r"\s*")


def find(shown: list[str], printed: list[str]) -> int | None:
    """Match all shown lines with the first printed ones; give how many those are, or None."""
    if not shown:
        return 0
    if shown[0].strip() == "…":
        ends = (find(shown[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
        return next((skipped + end for skipped, end in enumerate(ends) if end is not None), None)
    if not printed or not pattern(shown[0]).fullmatch(printed[0]):
        return None
    rest = find(shown[1:], printed[1:])
    return None if rest is None else rest + 1


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """Give each command of a block with what it prints."""
    if block.kind != "console":
        return [(block.text, ["…"])]
    found: list[tuple[str, list[str]]] = []
    open_end = False
    for line in block.text.splitlines():
        if line.startswith("$ ") or line == "^C":
            found.append((line.removeprefix("$ "), []))
            open_end = line.endswith("\\")
        elif open_end:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
            open_end = line.endswith("\\")
        else:
            found[-1][1].append(line)
    return found


class Terminal:
    """One shell, and all that it printed."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.seen = 0
        """Lines that were compared."""
        self._changing = Changing()
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=env,
            text=True,
            start_new_session=True,
        )
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._input = self._shell.stdin
        self._reader = threading.Thread(target=self._read, args=(self._shell.stdout,), daemon=True)
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                with self._changing:
                    self.lines.append(line.rstrip("\n"))

    def begin(self, command: str) -> None:
        """Run a command, after those that run."""
        self._input.write(f"{{ {command}\n}} </dev/null; printf '\\n{DONE}%s\\n' $?\n")
        self._input.flush()

    def interrupt(self) -> None:
        """Send SIGINT to what the shell runs."""
        children = Path(f"/proc/{self._shell.pid}/task/{self._shell.pid}/children").read_text().split()
        assert children, "nothing runs that could be interrupted"
        for child in children:
            os.kill(int(child), signal.SIGINT)

    def end(self) -> tuple[int, list[str]]:
        """Wait until the command has ended; give its status and what it printed."""

        def look() -> tuple[int, int] | None:
            for index in range(self.seen, len(self.lines)):
                if self.lines[index].startswith(DONE):
                    return index, int(self.lines[index][1:])
            return None

        index, status = self._changing.wait_for(look, "the end of a command", 2 * DEADLINE)
        printed = self.lines[self.seen : index]
        self.seen = index + 1
        return status, printed[:-1] if printed and not printed[-1] else printed

    def wait(self, shown: list[str], plain: Plain) -> None:
        """Wait until this has been printed since the last look; log lines may come before it."""

        def look() -> int | None:
            lines = [line for line in self.lines[self.seen :] if line and not line.startswith(DONE)]
            return find(["…", *shown], plain(lines))

        if any(shown):
            self._changing.wait_for(look, "\n".join(shown), 2 * DEADLINE)
            self.seen = len(self.lines)

    def close(self) -> None:
        """End the shell and all that it started."""
        with self._input:
            os.killpg(self._shell.pid, signal.SIGTERM)
        try:
            self._shell.wait(DEADLINE)
            self._reader.join(DEADLINE)
        finally:
            if self._reader.is_alive():
                os.killpg(self._shell.pid, signal.SIGKILL)


class Plain:
    """Turns what was printed into what the guide would show."""

    def __init__(self, ports: dict[str, str], folder: Path) -> None:
        self._back = {free: port for port, free in ports.items()}
        self._ports = re.compile(rf"(?<!\d)({'|'.join(self._back)})(?!\d)")
        self._folder = str(folder)

    def __call__(self, lines: list[str]) -> list[str]:
        """Put the guide's ports and home folder in."""
        back = (self._ports.sub(lambda found: self._back[found[0]], line) for line in lines)
        return [line.replace(self._folder, "/home/ada") for line in back]


class Guide:
    """A guide that is followed, in a folder. A context manager that ends what runs."""

    def __init__(self, path: Path, folder: Path, env: dict[str, str] | None = None) -> None:
        self.path = path
        self._folder = folder
        self._terminals: dict[str, Terminal] = {}
        documented = [str(port) for port in (3000, *range(8080, 8090), *range(9090, 9100))]
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in documented]
            free = [str(one.getsockname()[1]) for one in sockets]
        self._ports = dict(zip(documented, free, strict=True))
        self._plain = Plain(self._ports, folder)
        programs = folder / ".bin"
        programs.mkdir()
        for name, what in PROGRAMS.items():
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {what} "$@"\n', "utf-8")
            (programs / name).chmod(0o755)
        self._env = clean_environment(folder) | {"LC_ALL": "C.UTF-8"} | (env or {})
        del self._env["PYTHONWARNINGS"]  # a reader's Python does not warn
        self._env["PATH"] = f"{programs}{os.pathsep}{self._env['PATH']}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for terminal in reversed(self._terminals.values()):
            terminal.close()
        if exc is not None:
            for name, terminal in self._terminals.items():
                exc.add_note(f"--- terminal {name}\n" + "\n".join(terminal.lines[-60:]))

    def use_free_ports(self, **names: int) -> None:
        """Set variables to the free ports that stand for the guide's."""
        self._env |= {name: self._ports[str(port)] for name, port in names.items()}

    def setenv(self, **names: str) -> None:
        """Set variables that the reader need not set, because the guide's ports are the defaults."""
        self._env |= names

    def port(self, port: int) -> str:
        """Give the free port that stands for one of the guide's."""
        return self._ports[str(port)]

    def follow(self) -> int:
        """Do all that the guide says; give how many commands that were."""
        done = 0
        for block in blocks(self.path):
            kind, _, name = block.mark.partition(": ")
            if kind == "file":
                (self._folder / name).write_text(self._free(block.text), "utf-8")
            elif kind == "shown":
                self._terminals[name].wait(block.text.splitlines(), self._plain)
            elif kind == "run":
                done += self._run(block, name)
        return done

    def _run(self, block: Block, name: str) -> int:
        if name not in self._terminals:
            self._terminals[name] = Terminal(self._folder, self._env)
        terminal = self._terminals[name]
        found = commands(block)
        for index, (command, shown) in enumerate(found):
            if command == "^C":
                terminal.interrupt()
                terminal.end()
                continue
            terminal.begin(self._filled(command))
            if name and index == len(found) - 1:
                terminal.wait(shown, self._plain)
                continue
            status, printed = terminal.end()
            plain = self._plain(printed)
            said = f"{self.path.name}: {command}\nstatus {status}, printed:\n" + "\n".join(plain)
            assert status == 0, said
            assert find(shown, plain) == len(plain), f"{said}\nshown:\n" + "\n".join(shown)
        return len(found)

    def _free(self, text: str) -> str:
        return PORTS.sub(lambda found: self._ports[found[0]], text)

    def _filled(self, command: str) -> str:
        for prefix in ("whk_", "evt_"):
            if f"{prefix}…" in command:
                printed = [line for terminal in self._terminals.values() for line in terminal.lines]
                found = re.findall(rf"{prefix}\w+", "\n".join(printed))
                assert found, f"{self.path.name}: no {prefix} was printed before {command}"
                command = command.replace(f"{prefix}…", found[-1])
        return self._free(command)
