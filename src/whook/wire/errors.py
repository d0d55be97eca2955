"""What can go wrong on the wire. Raised by `whook.wire` only; caught by whoever drives a link."""


class ProtocolError(Exception):
    """The peer broke the protocol. The link cannot be trusted any more and must be closed."""


class CreditExceeded(Exception):
    """More data was offered for sending than the peer has granted: wait for credit first."""


class StreamClosed(Exception):
    """The stream has ended, was reset, or never was: nothing more can be sent on it."""


class StreamsExhausted(Exception):
    """Every stream id of the link has been used: a new link is needed."""
