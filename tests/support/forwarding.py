"""A client that forwards to a local server, at one end of a real link whose other end the test holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from tests.support.far_end import linked
from tests.support.origin import Origin
from whook.link import Opener
from whook.wire import Headers
from whook_cli.display import Display
from whook_cli.forward import Forwarder
from whook_cli.handler import Handler
from whook_cli.pool import Pool, open_pool
from whook_cli.records import Record, RequestRecord
from whook_cli.respond import Responder
from whook_cli.target import parse_target


class Client:
    """A handler that forwards to an origin, the far end of its link, and what it would have displayed."""

    def __init__(self, opener: Opener, pool: Pool, shown: list[Record]) -> None:
        self.opener = opener
        self.pool = pool
        self.shown = shown

    @property
    def records(self) -> Sequence[RequestRecord]:
        """Requests that have ended."""
        return [r for r in self.shown if isinstance(r, RequestRecord) and not r.still_open]


@asynccontextmanager
async def forwarding(
    target: str, *, rewrite: bool = False, verbose: bool = False, insecure: bool = False
) -> AsyncGenerator[Client]:
    """Forward exchanges to `target` until the block ends."""
    shown: list[Record] = []
    handler = Handler(silent_display(shown), Responder(), verbose=verbose)
    async with open_pool(parse_target(target), insecure=insecure) as pool:
        handler.forwarder = Forwarder(pool, rewrite_host=rewrite, opened=handler.opened)
        async with linked(handler) as opener:
            yield Client(opener, pool, shown)


def silent_display(shown: list[Record], on_show: Callable[[], None] = lambda: None) -> Display:
    """Give a display that only keeps what it is shown, and tells `on_show` each time."""

    def show(record: Record) -> None:
        shown.append(record)
        on_show()

    display = Display(lambda _: [])
    display.show = show  # type: ignore[method-assign]
    return display


def connections(origin: Origin) -> int:
    """Count the connections that were ever made to an origin."""
    return len(origin._threads)


def post(body: bytes, *more: tuple[bytes, bytes]) -> Headers:
    """Give the headers of a POST with this body."""
    return [(b"hOST", b"shop.example"), *more, (b"Content-Length", b"%d" % len(body))]
