"""Exchanges in which more than one thing happens at a time, each with two tasks and no more.

`Duplex`: the sender's side (the rest of its request, then a watch whether it is still there) beside the
answer's. `RawDuplex`: bytes both ways after a 101. Used by `conversation`, which handles what they raise.

The two tasks never write to the same end: the sender's side reads the socket and sends on the exchange, the
answer's side receives from the exchange and writes the socket.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from whook.link import Data, Exchange, ExchangeReset, gathered
from whook.wire import Response
from whook_conductor import answers
from whook_conductor.dialogue import Dialogue
from whook_conductor.reply import BadAnswerError, Reply, upgrade_head
from whook_conductor.resolver import Refusal
from whook_conductor.sender import Phase, SenderGoneError

_EXPECTED: Final = (ExchangeReset, Refusal, SenderGoneError)
"""How either side may end the exchange; what came first is what the conversation gets to handle."""


class _TwoSided:
    """Two tasks; the first that fails ends the other, and its failure is raised as it was."""

    def __init__(self, dialogue: Dialogue, exchange: Exchange) -> None:
        self._talk = dialogue
        self._sender = dialogue.sender
        self._exchange = exchange
        self._failure: Exception | None = None

    async def _both(
        self, first: Callable[[], Awaitable[None]], second: Callable[[], Awaitable[None]], *, wait: bool
    ) -> None:
        """Run both; with `wait` until both are over, else until `second` is."""
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            nursery.start_soon(self._contained, first, scope)
            await self._contained(second, scope)
            if not wait:
                scope.cancel(reason="the answer is over")
        if self._failure is not None:
            raise self._failure

    async def _contained(self, side: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await side()
        except _EXPECTED as failure:
            if self._failure is None:
                self._failure = failure
            scope.cancel(reason=type(failure).__name__)


class Duplex(_TwoSided):
    """A request whose body is still coming, a response that is streamed, or both at once."""

    def __init__(self, dialogue: Dialogue, exchange: Exchange) -> None:
        super().__init__(dialogue, exchange)
        self._begun = trio.Event()
        """The response has begun, so the request will not be sent again."""
        self._uploaded = trio.Event()
        self._reply: Reply | None = None
        self._out: list[bytes] = []

    async def run(self, reply: Reply | None = None, out: list[bytes] | None = None) -> bool:
        """Carry the exchange to its end; return whether the connection can be used again.

        `reply` and `out` are the response's beginning, when there is one already. Raises `ExchangeReset`,
        `Refusal`, `SenderGoneError`; the sender's phase tells whether anything was answered before.
        """
        self._reply = reply
        self._out = out or []
        if reply is not None:
            self._begun.set()
        self._talk.awaiting_sender = False
        await self._both(self._sender_side, self._answer_side, wait=False)
        assert self._reply is not None
        return self._talk.reusable(self._reply)

    async def _sender_side(self) -> None:
        try:
            await self._upload()
        except ExchangeReset:
            # The answer's side sees it too and decides. If an answer has come all the same, the rest of the
            # request is taken and thrown away: a sender that only writes would else never read the answer.
            await self._begun.wait()
            await self._discard()
        self._uploaded.set()
        await self._watch()

    async def _upload(self) -> None:
        upload, exchange = self._talk.upload, self._exchange
        while not upload.complete:
            await self._read()
            data = upload.take(self._sender)
            if data:
                await exchange.send_data(data, end=upload.whole)
            elif upload.whole:
                exchange.send_end()
            if upload.trailers:
                exchange.send_end(upload.trailers)
            self._progress()

    async def _discard(self) -> None:
        upload = self._talk.upload
        while not upload.complete:
            await self._read()
            upload.take(self._sender)
            self._progress()

    async def _read(self) -> None:
        """Have something of the request parsed, or raise `SenderGoneError`."""
        sender, talk = self._sender, self._talk
        talk.awaiting_sender = True
        while not sender.events:
            await sender.read_more()
            if sender.eof and not sender.events:
                raise SenderGoneError
        talk.awaiting_sender = False

    def _progress(self) -> None:
        settings = self._talk.context.settings
        if self._sender.phase is Phase.WAITING:
            self._sender.within(settings.request_deadline)
        elif self._sender.phase is Phase.LINGERING:
            self._sender.within(settings.linger_timeout)

    async def _watch(self) -> None:
        """Notice a sender that resets, or closes its side, while its response is under way.

        Reads once: whoever sends its next request early is there, and that request waits in the parser.
        """
        sender = self._sender
        if sender.events or sender.eof:
            return
        await sender.read_more()
        if sender.eof and sender.guard.deadline == math.inf:
            sender.unhurried()  # which is no longer without limit

    async def _answer_side(self) -> None:
        talk, sender, exchange = self._talk, self._sender, self._exchange
        reply, out, ended = self._reply, self._out, False
        if reply is None:
            first = await talk.final_head(exchange)
            self._reply = reply = talk.begin_reply(first.response)
            self._begun.set()
            out.append(reply.head)
            ended = talk.gather(exchange, reply, out, first)
        sender.phase = Phase.RESPONDING
        while not ended:
            await sender.write_stream(gathered(out))
            out.clear()
            ended = talk.gather(exchange, reply, out, await exchange.receive())
        await sender.write_stream(gathered(out))
        talk.answered()
        if not talk.upload.complete:
            sender.phase = Phase.LINGERING
            if not reply.closes:
                sender.within(talk.context.settings.linger_timeout)
                await self._uploaded.wait()


class RawDuplex(_TwoSided):
    """Bytes both ways, each direction with an end of its own."""

    _half_closed = False
    """The far end has ended its direction."""

    async def run(self, response: Response) -> bool:
        """Pass the 101 on, then bytes until both directions have ended.

        Raises `ExchangeReset`, `Refusal`, `SenderGoneError`. The connection cannot be used again.
        """
        talk, sender = self._talk, self._sender
        try:
            head = upgrade_head(response)
        except BadAnswerError:
            raise Refusal(answers.BAD_ANSWER) from None
        talk.upload.keep_no_longer()
        if talk.capture is not None:
            talk.capture.response_head(response)
        talk.outcome.status = response.status
        talk.outcome.to_head = trio.current_time() - talk.outcome.began
        sender.phase = Phase.RESPONDING
        await sender.write_stream(head)

        async def up() -> None:
            data = sender.accept_upgrade() or await sender.receive_raw()
            while data:
                talk.upload.received += len(data)
                await self._exchange.send_data(data)
                self._active()
                data = await sender.receive_raw()
            self._exchange.send_end()
            self._active()

        await self._both(up, self._down, wait=True)
        talk.outcome.result = "upgraded"
        return False

    def _active(self) -> None:
        """Bound the silence once one direction has ended: the other may be left open by mistake."""
        if self._half_closed or self._sender.eof:
            self._sender.within(self._talk.context.settings.half_closed_timeout)

    async def _down(self) -> None:
        sender, exchange = self._sender, self._exchange
        ended = False
        while not ended:
            item = await exchange.receive()
            if isinstance(item, Data) and item.data:
                self._talk.outcome.sent += len(item.data)
                await sender.write_stream(item.data)
            ended = item.ended
        self._half_closed = True
        await sender.end_write()
        self._active()
