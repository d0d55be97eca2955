"""What httptools calls, and what is called of httptools.

Used by the message reader for heads and by the chunk decoder for trailers. Must never refuse anything: a
callback that raises would hide where the parser stopped.
"""

from typing import Protocol

from whook.http1.events import Headers


class HeadParser(Protocol):
    """What the reader uses of an httptools parser."""

    def feed_data(self, data: bytes) -> None:
        """Read more bytes of a head, or raise HttpParserError."""


class Sink:
    """Receives the callbacks of one llhttp parser. Only two: each costs as much as a header."""

    __slots__ = ("complete", "fields")

    def __init__(self) -> None:
        self.fields: Headers = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field. llhttp leaves the blanks behind its value, and lets no other white space into it."""
        self.fields.append((name, value.rstrip()))

    def on_headers_complete(self) -> None:
        """Note that llhttp, too, sees the end of the head here."""
        self.complete = True
