"""Drives the wire over a message transport on Trio: links, exchanges, trunks and tunnels.

Called by the conductor (`Opener` over trunks), the relay (`Link` under its switch) and the CLI
(`Answerer` over tunnels). Knows nothing of HTTP. `whook.link.websocket` is imported by name where a
WebSocket is needed.
"""

from whook.link.answerer import Answerer
from whook.link.core import HIGH_WATER, Link
from whook.link.errors import (
    ExchangeReset,
    HandshakeRefused,
    LinkClosed,
    LinkRefused,
    LinkUnanswered,
    TooManyExchanges,
)
from whook.link.exchange import Exchange, Item
from whook.link.heartbeat import Heartbeat
from whook.link.opener import Opener
from whook.link.sender import Sender
from whook.link.transport import (
    Batch,
    StreamTransport,
    SwiftTransport,
    Transport,
    gathered,
    send_batch,
    send_now,
)
from whook.link.trunk import TrunkRefused, introduce_conductor, introduce_relay
from whook.wire import DataReceived as Data
from whook.wire import Ended as End
from whook.wire import HeadReceived as Head

__all__ = [
    "HIGH_WATER",
    "Answerer",
    "Batch",
    "Data",
    "End",
    "Exchange",
    "ExchangeReset",
    "HandshakeRefused",
    "Head",
    "Heartbeat",
    "Item",
    "Link",
    "LinkClosed",
    "LinkRefused",
    "LinkUnanswered",
    "Opener",
    "Sender",
    "StreamTransport",
    "SwiftTransport",
    "TooManyExchanges",
    "Transport",
    "TrunkRefused",
    "gathered",
    "introduce_conductor",
    "introduce_relay",
    "send_batch",
    "send_now",
]
