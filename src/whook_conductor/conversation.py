"""One request and its response: from the parsed head to the last byte that goes back.

Run by the task of the sender's connection. The common case, a small request that came whole and a response
that comes whole, takes no other task, no log line and one write. Everything else is in `streams`: what is
streamed, either way, and raw bytes after an Upgrade.

The single place where a request that cannot be delivered ends is `Conversation._refuse`, and the single place
where what became of it is reported is the end of `Conversation.run`.
"""

from __future__ import annotations

import contextlib

import trio

from whook.backplane.ports import Route
from whook.http1 import RequestHead
from whook.link import Exchange, ExchangeReset, LinkClosed, TooManyExchanges
from whook.wire import DATA_CHUNK, Request, ResetCode
from whook_conductor import answers
from whook_conductor.addressing import Destination
from whook_conductor.answers import Answer, answer_to_reset, encode_answer
from whook_conductor.dialogue import SWITCHING_PROTOCOLS, Context, Dialogue
from whook_conductor.forwarding import Forwarding
from whook_conductor.resolver import Refusal
from whook_conductor.sender import Phase, Sender, SenderGoneError
from whook_conductor.streams import Duplex, RawDuplex


class Conversation(Dialogue):
    """A dialogue from its request to its end."""

    __slots__ = ("_healed", "_request", "target")

    def __init__(self, context: Context, sender: Sender, head: RequestHead) -> None:
        super().__init__(context, sender, head)
        self._healed = False
        self._request: Request | None = None
        self.target = head.target

    async def run(self, forwarding: Forwarding) -> bool:
        """Forward the request and answer it; return whether the connection can be used again."""
        outcome = self.outcome
        over = False
        try:
            try:
                keep = await self._forward(forwarding)
            except Refusal as refusal:
                keep = await self._refuse(refusal.answer)
            except SenderGoneError:
                outcome.slug = "sender-gone"
                keep = False
            over = True
            return keep
        finally:
            if not over:
                self._cut_short()
            outcome.duration = trio.current_time() - outcome.began
            outcome.received = self.upload.received
            self.remember(self.target, trusted=forwarding.trusted)
            self.context.recorder.record(outcome)

    # -- towards the far end ------------------------------------------------------------------------------

    async def _forward(self, forwarding: Forwarding) -> bool:
        context, sender = self.context, self.sender
        self.upload.take(sender)
        if context.drain.begun:
            raise Refusal(answers.DRAINING)
        destination = self._destination()
        sender.within(context.settings.request_deadline)
        self.outcome.project, self.target = destination.project, destination.target
        route = context.table.lookup(destination.project)
        if route is None:
            route = await context.resolver.find(destination.project)
        self.outcome.project_id = route.project_id
        self._request = self._build(forwarding, destination)
        try:
            exchange = self._open(route)
        except LinkClosed:
            route, exchange = await self._open_elsewhere(route, known_here=True)
        while True:
            try:
                return await self._converse(exchange)
            except ExchangeReset as reset:
                again = reset.code == ResetCode.NO_TUNNEL and self.upload.kept is not None
                if self._healed or not again:
                    raise Refusal(answer_to_reset(reset.code)) from None
            finally:
                # Nothing to do when both directions have ended; otherwise nobody wants the rest.
                late = sender.guard.cancel_called
                exchange.reset(ResetCode.DEADLINE if late else ResetCode.CANCELLED)
            route, exchange = await self._open_elsewhere(route, known_here=False)

    def _destination(self) -> Destination:
        destination = self.context.addressing.find(self.head)
        if destination is None:
            raise Refusal(answers.UNKNOWN_PROJECT)
        return destination

    def _build(self, forwarding: Forwarding, destination: Destination) -> Request:
        outcome = self.outcome
        client, scheme, headers = forwarding.forward(self.head, outcome.event_id, upgrade=self.upgrade)
        outcome.client = client
        deadline = int(self.context.settings.request_deadline * 1000)
        return Request(
            outcome.event_id, 1, deadline, scheme, client, self.head.method, destination.target, headers
        )

    def _open(self, route: Route) -> Exchange:
        """Open the exchange with what is at hand of the body. Raises `LinkClosed`, `Refusal`."""
        assert self._request is not None
        body = self.upload.kept or b""
        end = self.upload.whole and not self.upgrade
        if len(body) > DATA_CHUNK:
            body, end = b"", False  # see _converse
        try:
            return self.context.trunks.open(route, self._request, body, end=end)
        except TooManyExchanges:
            raise Refusal(answers.OVERLOADED) from None
        except ValueError:
            raise Refusal(answers.HEAD_TOO_LARGE) from None

    async def _open_elsewhere(self, route: Route, *, known_here: bool) -> tuple[Route, Exchange]:
        """Ask once who holds the project now, `route` having led nowhere, and open the exchange there.

        `known_here` says that it is our trunk that is missing, so that the same route may still be right.
        Raises `Refusal`.
        """
        self._healed = True
        found = await self.context.resolver.again(route)
        if found is None and known_here:
            found = self.context.table.lookup(route.project)
        if found is None:
            raise Refusal(answers.NO_TUNNEL)
        with trio.move_on_after(self.context.settings.trunk_wait):
            await self.context.trunks.wait_up(found.relay_id)
        try:
            return found, self._open(found)
        except LinkClosed:
            raise Refusal(answers.UNAVAILABLE) from None

    # -- and back -----------------------------------------------------------------------------------------

    async def _converse(self, exchange: Exchange) -> bool:
        upload = self.upload
        if upload.received > DATA_CHUNK and (body := upload.kept):
            await exchange.send_data(body, end=upload.whole)  # did not fit into the opening
        if not upload.complete:
            return await Duplex(self, exchange).run()
        if upload.trailers:
            exchange.send_end(upload.trailers)
        first = await self.final_head(exchange)
        if self.upgrade:
            if first.response.status == SWITCHING_PROTOCOLS:
                return await RawDuplex(self, exchange).run(first.response)
            with contextlib.suppress(ExchangeReset):
                exchange.send_end()
        reply = self.begin_reply(first.response)
        out = [reply.head]
        if not self.gather(exchange, reply, out, first):
            return await Duplex(self, exchange).run(reply, out)
        self.sender.phase = Phase.RESPONDING
        await self.sender.write(b"".join(out))
        self.answered()
        return self.reusable(reply)

    # -- the other ends -----------------------------------------------------------------------------------

    async def _refuse(self, answer: Answer) -> bool:
        """Answer instead of the far end, or break off where a response has begun already."""
        sender, head, upload = self.sender, self.head, self.upload
        self.outcome.slug = answer.slug
        if sender.phase is not Phase.WAITING:
            if sender.phase is Phase.RESPONDING:
                sender.abort()
            return False
        self.outcome.result = "refused"
        self.outcome.status = answer.status
        reuse = upload.complete and head.keep_alive and head.version != b"1.0"
        close = self.context.drain.begun or not reuse
        sender.phase = Phase.RESPONDING
        if close and (head.keep_alive or not upload.complete):
            sender.may_send_more(unfinished=not upload.complete)
        sender.within(self.context.settings.write_timeout)
        with contextlib.suppress(SenderGoneError):
            await sender.write(self._encode(answer, close=close))
        return not close

    def _cut_short(self) -> None:
        """Decide the connection's end when the guard fired, the service stops, or something is defect."""
        sender, outcome = self.sender, self.outcome
        if sender.phase is Phase.RESPONDING:
            sender.abort()
            outcome.result = "aborted"
            outcome.slug = "timeout" if sender.guard.cancel_called else "stopped"
        elif sender.phase is Phase.WAITING:
            outcome.slug = "stopped"
            if sender.guard.cancel_called:
                # Who is late? A sender that waits for a 100 before its body is not.
                slow_sender = self.awaiting_sender and (self.continued or not self.head.expect_continue)
                answer = answers.REQUEST_TIMEOUT if slow_sender else answers.DEADLINE_EXCEEDED
                outcome.result = "refused"
                outcome.slug = answer.slug
                outcome.status = answer.status
                sender.parting = self._encode(answer, close=True)
                sender.may_send_more(unfinished=not self.upload.complete)

    def _encode(self, answer: Answer, *, close: bool) -> bytes:
        head_only = self.head.method == b"HEAD"
        return encode_answer(answer, head_only=head_only, close=close, event_id=self.outcome.event_id)
