"""The request on its way to the local server, as bytes: what is at hand, and what is still to come.

Owns the framing of the body: re-chunked if the sender sent it chunked, else as it came. `forward` makes one
for each exchange, `attempt` sends what it gives. Must never touch a socket, nor hold a whole large body.
"""

from typing import Final

from whook.http1 import Framing, encode_chunk, encode_last_chunk, request_framing
from whook.link import Data, End, Exchange, Head
from whook_cli.records import RequestRecord

GATHER: Final = 65_536
"""Bytes of a body, already here, that are sent together with the head and kept for a second attempt."""


class Upload:
    """One request. Raises ValueError for one whose framing cannot be told.

    Attributes:
        ready: its head and as much of its body as was here at once; not consumed by sending it.
        ended: nothing follows what has been given out.
        may_upgrade: the sender asked for another protocol, so that the response may be 101.
        held: nothing more of the request's direction may be sent before the response says 101.
        replayable: `ready` is all that was ever given out, so that the request can be sent again.
    """

    __slots__ = ("_exchange", "_framing", "_record", "ended", "held", "may_upgrade", "ready", "replayable")

    def __init__(self, exchange: Exchange, record: RequestRecord, head: bytes) -> None:
        self._exchange = exchange
        self._record = record
        headers = exchange.request.headers
        self._framing = framing = request_framing(headers)
        self.ended = exchange.request_ended
        # In the middle of chunks there would be no telling where the other protocol begins.
        asked = any(len(name) == 7 and name.lower() == b"upgrade" for name, _ in headers)
        self.may_upgrade = asked and framing is not Framing.CHUNKED
        self.held = asked and framing is Framing.NONE and not self.ended
        self.replayable = True
        self.ready = head
        if not self.ended and not self.held:
            self._gather()
        elif framing is Framing.CHUNKED:
            self.ready += encode_last_chunk()

    def _gather(self) -> None:
        pieces = [self.ready]
        size = 0
        while not self.ended and size < GATHER and (item := self._exchange.receive_nowait()) is not None:
            pieces.append(piece := self._encode(item))
            size += len(piece)
        self.ready = b"".join(pieces)

    async def next_piece(self) -> bytes:
        """Give the bytes that come next, possibly none. Raises `ExchangeReset`."""
        item = await self._exchange.receive()
        self.replayable = False
        return self._encode(item)

    def _encode(self, item: Head | Data | End) -> bytes:
        self.ended = item.ended
        if isinstance(item, Data):
            data = item.data
            self._record.request_bytes += len(data)
            if self._record.details is not None:
                self._record.details.request_body.add(data)
            if self._framing is not Framing.CHUNKED:
                if data and self._framing is Framing.NONE and not self.may_upgrade:
                    raise ValueError("a body without Content-Length or Transfer-Encoding")
                return data
            return encode_chunk(data) + encode_last_chunk() if item.ended else encode_chunk(data)
        if self._framing is Framing.CHUNKED and isinstance(item, End):
            return encode_last_chunk(item.trailers)
        return b""
