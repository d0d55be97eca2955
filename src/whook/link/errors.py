"""How a link or one of its exchanges fails. Raised by `whook.link`, handled by conductor, relay and CLI."""

from whook.wire import GoAway, ResetCode

_CODES = frozenset(ResetCode)


class LinkClosed(Exception):
    """The link is over; nothing can be sent or opened on it. The text says why it ended."""


class LinkUnanswered(LinkClosed):
    """It never came to be: the peer did not answer in time."""


class LinkRefused(Exception):
    """The peer answered the introduction with GOAWAY.

    Attributes:
        goaway: code, message and retry_after as the peer gave them.
    """

    def __init__(self, goaway: GoAway) -> None:
        super().__init__(goaway.message or f"refused with code {goaway.code}")
        self.goaway = goaway


class HandshakeRefused(Exception):
    """The WebSocket handshake was answered with an HTTP error instead.

    Attributes:
        status: the HTTP status.
        headers: names in lower case.
        body: at most a few KiB, usually problem+json (RFC 9457).
    """

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(f"the WebSocket handshake was refused with HTTP status {status}")
        self.status = status
        self.headers = headers
        self.body = body


class TooManyExchanges(Exception):
    """The link carries as many exchanges as it takes at once."""


class ExchangeReset(Exception):
    """The exchange was given up by the peer, or its link died.

    Attributes:
        code: a `whook.wire.ResetCode`, or an unknown number of a newer peer.
        message: for people.
    """

    def __init__(self, code: int, message: str = "") -> None:
        name = ResetCode(code).name if code in _CODES else str(code)
        super().__init__(f"{name}: {message}" if message else name)
        self.code = code
        self.message = message
