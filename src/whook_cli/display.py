"""What `whook` prints while it runs: one line (or block, or JSON object) for each record, in order.

Owns standard output and standard error from the moment it is opened. `session` and `forward` hand it records
with `show`, which never waits; one task writes them in batches, in a worker thread, because a terminal that
is paused or a pipe that is full must not hold up a webhook. What a sender wrote reaches the output only
through `whook_cli.text.printable` or the JSON encoder. Must never import rich except for `--verbose`.
"""

import os
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TextIO

import trio

from whook_cli.records import Record, RequestRecord, StatusRecord, json_line, request_line
from whook_cli.text import duration, printable, shorten, size

BATCH_INTERVAL = 0.033
"""Seconds between two writes: thirty a second look continuous and cost nothing."""
MAX_WAITING = 16_777_216
"""Bytes of records that may wait for a slow output; what comes on top is counted and left out."""
FLUSH_TIME = 2.0
"""Seconds at the end for an output that does not take what is left."""
PATH_WIDTH = 160
"""Characters of a target that are printed; `--json` prints all of them."""

_STATUS_COLOURS = {1: "36", 2: "32", 3: "36", 4: "33", 5: "31"}


def wants_colour(stream: TextIO) -> bool:
    """Whether `stream` gets ANSI colours: a terminal, without NO_COLOR (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return False
    return _windows_takes_ansi() if sys.platform == "win32" else True


def _windows_takes_ansi() -> bool:
    """Switch ANSI sequences on in the Windows console; False if it is too old for them."""
    if sys.platform != "win32":
        return True
    import ctypes  # only there is it needed

    kernel = ctypes.windll.kernel32
    handle = kernel.GetStdHandle(-11)
    mode = ctypes.c_ulong()
    return bool(
        kernel.GetConsoleMode(handle, ctypes.byref(mode)) and kernel.SetConsoleMode(handle, mode.value | 4)
    )


class Painter:
    """Turns records into lines for people."""

    def __init__(self, *, colour: bool, width: int = 80) -> None:
        self._colour = colour
        self._width = width

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def paint(self, record: Record) -> str:
        """Give the line or block of one record, without its last line break."""
        clock = self._paint("2", time.strftime("%H:%M:%S", time.localtime(record.at)))
        if isinstance(record, StatusRecord):
            text = "\n".join(printable(line) for line in record.text.split("\n"))
            return f"{clock} {self._paint('31' if record.serious else '36', text)}"
        line = f"{clock} {self._request(record)}"
        if record.details is None or record.still_open:
            return line
        from whook_cli.verbose import block  # rich is only loaded for --verbose

        return f"{line}\n{block(record.details, record.status, colour=self._colour)}"

    def _request(self, record: RequestRecord) -> str:
        method, target = request_line(record)
        if record.watched:
            status = self._paint("35", "watched")
        elif record.status:
            status = self._paint(_STATUS_COLOURS.get(record.status // 100, "31"), str(record.status))
        else:
            status = self._paint("31", "---")
        took = "open" if record.still_open else duration(record.seconds)
        sizes = f"{size(record.request_bytes)} → {size(record.response_bytes)}"
        again = f" (attempt {record.attempt})" if record.attempt > 1 else ""
        if record.origin != "live":
            left = f", {record.remaining} left" if record.remaining else ""
            again += self._paint("36", f" ({record.origin}{left})")
        line = (
            f"{self._paint('1', f'{method:<6}')} {shorten(target, PATH_WIDTH):<24}  {status}  {took:>7}  "
            f"{sizes}  {self._paint('2', printable(record.event_id))}{again}"
        )
        return f"{line}  {self._paint('31', printable(record.error))}" if record.error else line


class Display:
    """Takes records and writes them; see `open_display`."""

    def __init__(self, render: Callable[[Record], list[tuple[TextIO, str]]]) -> None:
        self._render = render
        self._waiting: deque[Record] = deque()
        self._weight = 0
        self._left_out = 0
        self._wake = trio.Event()
        self._closing = trio.Event()
        self._written = trio.Event()
        self._one_thread = trio.CapacityLimiter(1)
        self.broken = trio.Event()
        """Set when nobody reads the output any more."""

    def show(self, record: Record) -> None:
        """Print `record` soon. Never waits; drops it, and says how many, if the output is far behind."""
        if self._weight > MAX_WAITING:
            self._left_out += 1
            return
        self._weight += record.weight
        self._waiting.append(record)
        if not self._wake.is_set():
            self._wake.set()

    def status(self, event: str, text: str, *, serious: bool = False, **values: object) -> None:
        """Print a change of the tunnel: `event` and `values` for scripts, `text` for people."""
        self.show(StatusRecord(time.time(), event, text, values, serious))

    async def run(self) -> None:
        """Write what is shown, until `finish`."""
        try:
            while True:
                await self._wake.wait()
                await self._write_waiting()
                if self._closing.is_set() and not self._waiting:
                    return
                with trio.move_on_after(BATCH_INTERVAL):
                    await self._closing.wait()
        finally:
            self._written.set()

    async def finish(self) -> None:
        """Wait until everything is written, but not longer than `FLUSH_TIME`."""
        self._closing.set()
        self._wake.set()
        with trio.move_on_after(FLUSH_TIME):
            await self._written.wait()

    async def _write_waiting(self) -> None:
        self._wake = trio.Event()
        if self._closing.is_set():
            self._wake.set()
        records, self._waiting = self._waiting, deque()
        left_out, self._left_out, self._weight = self._left_out, 0, 0
        if left_out:
            text = f"{left_out} requests not shown: the output does not keep up"
            records.append(StatusRecord(time.time(), "left-out", text, {"count": left_out}, serious=True))
        if not records or self.broken.is_set():
            await trio.lowlevel.checkpoint()
            return
        try:
            await trio.to_thread.run_sync(
                self._write, records, abandon_on_cancel=True, limiter=self._one_thread
            )
        except (OSError, ValueError):  # ValueError: the stream was closed
            self.broken.set()

    def _write(self, records: deque[Record]) -> None:
        batches: dict[TextIO, list[str]] = {}
        for record in records:
            for stream, text in self._render(record):
                batches.setdefault(stream, []).append(text)
        for stream, texts in batches.items():
            stream.write("\n".join(texts) + "\n")
            stream.flush()


def human(out: TextIO) -> Callable[[Record], list[tuple[TextIO, str]]]:
    """Everything as lines for people on `out`."""
    painter = Painter(colour=wants_colour(out))
    return lambda record: [(out, painter.paint(record))]


def machine(out: TextIO, err: TextIO) -> Callable[[Record], list[tuple[TextIO, str]]]:
    """Every record as a JSON line on `out`; changes of the tunnel on `err` as well, for people."""
    painter = Painter(colour=wants_colour(err))

    def render(record: Record) -> list[tuple[TextIO, str]]:
        lines = [(out, json_line(record))]
        if isinstance(record, StatusRecord):
            lines.append((err, painter.paint(record)))
        return lines

    return render


@asynccontextmanager
async def open_display(*, as_json: bool, out: TextIO, err: TextIO) -> AsyncGenerator[Display]:
    """Print records for as long as the block runs, and what is left at its end."""
    display = Display(machine(out, err) if as_json else human(out))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(display.run, name="display")
        try:
            yield display
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_TIME):
                await display.finish()
            nursery.cancel_scope.cancel()
