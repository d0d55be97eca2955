"""Headers and bodies for `--verbose`: bounded, readable, and harmless on a terminal.

Owns the look of the block below a request's line. Called by `display` in its worker thread, because a pretty
body may take milliseconds. The only module that imports rich. Must never change what it shows: JSON is
indented token by token, never parsed and written again, so that numbers and repeated keys stay as sent.
"""

import io
import zlib

import msgspec
from rich.console import Console
from rich.highlighter import JSONHighlighter

from whook_cli.records import Capture, Details, Headers, decode_text
from whook_cli.text import hex_excerpt, printable, printable_lines, shorten, size

MAX_LINES = 200
"""Lines of a body that are printed."""
MAX_TEXT = 16_384
"""Characters of a body that are printed."""
MAX_WIDTH = 2_000
"""Characters of one line that are printed."""
HEX_BYTES = 128
"""Bytes of a binary body that are printed."""

_highlight = JSONHighlighter()


def block(details: Details, status: int, *, colour: bool) -> str:
    """Give the block for one request: its headers and body (>), the response's headers and body (<)."""
    lines = side(">", "", details.request_headers, details.request_body, colour)
    if status:
        start = f"{status} {printable(details.response_reason)}"
        lines += side("<", start, details.response_headers, details.response_body, colour)
    return "\n".join(lines)


def side(mark: str, start: str, headers: Headers, body: Capture, colour: bool) -> list[str]:
    """Give one message's lines: what it starts with, its headers, its body."""
    dim, plain = ("\x1b[2m", "\x1b[0m") if colour else ("", "")
    lines = [f"  {dim}{mark}{plain} {start}"] if start else []
    for name, value in headers:
        lines.append(f"  {dim}{mark} {printable(name)}:{plain} {shorten(printable(value), MAX_WIDTH)}")
    if body.total:
        lines += ["", *(f"    {line}" for line in body_lines(headers, body, colour=colour)), ""]
    return lines


def body_lines(headers: Headers, body: Capture, *, colour: bool) -> list[str]:
    """Give the lines of a body: JSON indented, other text as it is, anything else in hexadecimal."""
    coding, kind = "", ""
    for name, value in headers:
        match name.lower():
            case b"content-encoding":
                coding = value.decode("latin-1").strip().lower()
            case b"content-type":
                kind = value.decode("latin-1").lower()
            case _:
                pass
    decoded = _decompressed(coding, body) if coding not in ("", "identity") else body
    text = decode_text(decoded) if decoded is not None else None
    if decoded is None or text is None:
        what = [
            size(body.total),
            shorten(printable(coding), 40) or "binary",
            printable(kind.partition(";")[0]),
        ]
        return [f"({' '.join(filter(None, what))})", *hex_excerpt(bytes(body.data), HEX_BYTES)]
    if "json" in kind or text.lstrip()[:1] in ("{", "["):
        return _clip(*_json(text, decoded, colour), decoded)
    return _clip(*_bounded(text), decoded)


def _decompressed(coding: str, body: Capture) -> Capture | None:
    """Undo gzip or deflate, as far as there is room for; None if that cannot be done."""
    if coding not in ("gzip", "x-gzip", "deflate"):
        return None
    result = Capture()
    try:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
        result.add(unpacker.decompress(bytes(body.data), MAX_TEXT * 2))
    except zlib.error:
        return None
    if not unpacker.eof:
        result.total += 1  # so that the end is known to be missing
    return result


def _json(text: str, body: Capture, colour: bool) -> tuple[list[str], bool]:
    if body.total > len(body.data):
        return _bounded(text)
    try:
        pretty = msgspec.json.format(text, indent=2)
    except (msgspec.DecodeError, RecursionError):
        return _bounded(text)
    lines, cut = _bounded(pretty)
    if not colour or not lines:
        return lines, cut
    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=True, color_system="standard", legacy_windows=False)
    console.print(_highlight("\n".join(lines)), soft_wrap=True)
    return buffer.getvalue().rstrip("\n").split("\n"), cut


def _bounded(text: str) -> tuple[list[str], bool]:
    """Give the printable lines that fit the bounds, and whether something was left out."""
    lines = printable_lines(text[:MAX_TEXT].rstrip("\r\n"))
    cut = len(text) > MAX_TEXT or len(lines) > MAX_LINES or any(len(line) > MAX_WIDTH for line in lines)
    return [shorten(line, MAX_WIDTH) for line in lines[:MAX_LINES]], cut


def _clip(lines: list[str], cut: bool, body: Capture) -> list[str]:
    if cut or body.total > len(body.data):
        lines.append("… (cut)")
    return lines
