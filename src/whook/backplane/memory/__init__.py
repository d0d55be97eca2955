"""The backplane of one process: directory and bus in memory, for `whook dev` and `whook serve`.

Opened by the composition root alone. It holds nothing that outlives the process and starts no task outside
of `open_memory_backplane`.
"""

from whook.backplane.memory.backplane import open_memory_backplane
from whook.backplane.memory.bus import SUBSCRIBER_BUFFER, MemoryBus
from whook.backplane.memory.directory import MemoryDirectory
from whook.backplane.memory.journal import MemoryJournal

__all__ = ["SUBSCRIBER_BUFFER", "MemoryBus", "MemoryDirectory", "MemoryJournal", "open_memory_backplane"]
