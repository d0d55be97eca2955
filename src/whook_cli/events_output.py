"""Where the commands about events write: lines or exact bytes, to a terminal, a pipe or a file.

Used by these commands only. A terminal gets nothing but harmless text; a pipe and a file get the bytes. That
nobody reads a pipe any more is no failure: the command just ends.
"""

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from whook_cli.exits import Exit, ExitCode
from whook_cli.text import printable_lines


@contextmanager
def readers_may_leave() -> Generator[None]:
    """End the block quietly when nobody reads standard output any more."""
    try:
        yield
        sys.stdout.flush()
    except* BrokenPipeError:
        # What is still buffered would fail again when the interpreter flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_lines(lines: Sequence[str]) -> None:
    """Write lines that are harmless already."""
    if lines:
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def write_bytes(data: bytes, path: Path | None = None) -> None:
    """Write bytes as they are to a file or a pipe; on a terminal as harmless text. Raises `Exit`."""
    if path is not None:
        try:
            path.write_bytes(data)
        except OSError as error:
            raise Exit(ExitCode.USAGE, f"cannot write {path}: {error.strerror}") from None
    elif sys.stdout.isatty():
        write_lines(printable_lines(data.removesuffix(b"\n").removesuffix(b"\r")))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
