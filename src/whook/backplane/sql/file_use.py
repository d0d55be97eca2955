"""Who has a SQLite file open: a lock beside it that the kernel takes back from a process that dies.

Called by `queue`. Everybody who opens the file shares the lock as long as it is open, so whoever gets it for
itself knows that nobody else is there. SQLite's own locks cannot tell: they last for a transaction.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nobody is ever known to be alone there
    fcntl = None  # type: ignore[assignment]


class FileUse:
    """A share in the lock."""

    def __init__(self, handle: int, *, alone: bool) -> None:
        self._handle = handle
        self.alone = alone
        """Nobody else has the file open, and nobody can open it before `share`."""

    def share(self) -> None:
        """Let others open the file."""
        if self.alone and fcntl is not None:
            fcntl.flock(self._handle, fcntl.LOCK_SH)
            self.alone = False


@contextmanager
def use_file(path: Path) -> Generator[FileUse]:
    """Share the lock of a file as long as the block runs. Waits, in this thread, while somebody is alone.

    Raises OSError if the lock's file cannot be made.
    """
    if fcntl is None:
        yield FileUse(-1, alone=False)
        return
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield FileUse(handle, alone=False)
        else:
            yield FileUse(handle, alone=True)
    finally:
        os.close(handle)
