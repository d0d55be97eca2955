"""Tables for people: columns as wide as they must be, numbers to the right, ages in one unit.

Used by the commands that list something. Every cell is made harmless here, whoever wrote it.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from whook_cli.text import printable

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> Iterator[str]:
    """Give the lines of a table. The columns headed by `right` are numbers."""
    lines = [tuple(head), *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    for line in lines:
        cells = (
            cell.rjust(width) if title in right else cell.ljust(width)
            for cell, width, title in zip(line, widths, head, strict=True)
        )
        yield "  ".join(cells).rstrip()


def age(seconds: float) -> str:
    """Give a time that has passed in its largest unit: ``42s``, ``7m``, ``5h``, ``3d``."""
    whole = max(0, round(seconds))
    for size, unit in _UNITS:
        if whole >= size:
            return f"{whole // size}{unit}"
    return "0s"
