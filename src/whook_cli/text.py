"""Text that may stand on a terminal: hostile bytes made harmless, sizes and durations made short.

Owns every conversion from what a sender wrote to what a person sees; `display` and `verbose` use it for
each piece. Nothing that came over the network may reach a terminal but through `printable`.
"""

from collections.abc import Callable

ESCAPED_TAB = "    "
_UNITS = ("kB", "MB", "GB")


def printable(raw: bytes | str) -> str:
    r"""Make `raw` safe to print on one line: what is not printable becomes an escape such as ``\x1b``.

    Covers C0 and C1 controls, DEL, line separators, zero-width and bidirectional formatting characters,
    lone surrogates and unassigned code points (`str.isprintable`). Bytes that are not UTF-8 become ``\xNN``.
    """
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def printable_lines(raw: bytes | str) -> list[str]:
    r"""Make a text of several lines safe: split at ``\n`` or ``\r\n``, tabs widened, the rest escaped."""
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")
    lines = text.replace("\r\n", "\n").split("\n")
    return [printable(line.replace("\t", ESCAPED_TAB)) for line in lines]


def _escape(char: str) -> str:
    point = ord(char)
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def shorten(text: str, width: int) -> str:
    """Cut `text` to `width` characters, the last of which is then an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def size(count: int) -> str:
    """Bytes in at most seven characters, decimal units: ``512 B``, ``1.2 kB``, ``25 MB``."""
    if count < 1000:
        return f"{count} B"
    value = count / 1000
    for unit in _UNITS:
        if value < 9.95:
            return f"{value:.1f} {unit}"
        if value < 999.5 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}"
        value /= 1000
    raise AssertionError  # the last unit always returns


def duration(seconds: float) -> str:
    """Seconds in at most seven characters: ``0.4 ms``, ``12 ms``, ``1.25 s``, ``3 m 20``."""
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d}"


def hex_excerpt(data: bytes, limit: int, paint: Callable[[str], str] = str) -> list[str]:
    """Sixteen bytes a line, in hexadecimal and as ASCII, of the first `limit` bytes."""
    lines = []
    for at in range(0, min(len(data), limit), 16):
        row = data[at : min(at + 16, limit)]
        ascii_side = "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in row)
        lines.append(paint(f"{at:08x}  {row.hex(' '):<47}  {ascii_side}"))
    return lines
