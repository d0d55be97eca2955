"""One request and its response: from the parsed head to the last byte that goes back.

Run by the task of the sender's connection. The common case, a small request that came whole and a response
that comes whole, takes no other task, no log line and one write. Everything else is in `streams`: what is
streamed, either way, and raw bytes after an Upgrade.

A request that cannot be delivered ends in `Storing.undeliverable`: stored and acknowledged, or refused. What
became of it is reported in `Storing.report`, once.
"""

from __future__ import annotations

import contextlib
from typing import Final

import trio

from whook.backplane.ports import Route
from whook.chassis.contained import about
from whook.http1 import RequestHead
from whook.link import Exchange, ExchangeReset, LinkClosed, TooManyExchanges
from whook.telemetry.traceparent import find_traceparent
from whook.wire import DATA_CHUNK, Request, ResetCode
from whook_conductor import answers
from whook_conductor.addressing import Destination
from whook_conductor.answers import answer_to_reset
from whook_conductor.dialogue import SWITCHING_PROTOCOLS, Context
from whook_conductor.forwarding import Forwarding
from whook_conductor.policies import Rules
from whook_conductor.resolver import Refusal
from whook_conductor.sender import Phase, Sender, SenderGoneError
from whook_conductor.storing import DuplicateError, Storing
from whook_conductor.streams import Duplex, RawDuplex

_NOT_THERE: Final = frozenset({ResetCode.NO_TUNNEL, ResetCode.DRAINING})
"""Resets that say that nothing of the request has been looked at."""
_NOT_TRIED: Final = _NOT_THERE | {ResetCode.OVERLOADED}
"""Nobody at the far end has seen a request that was reset so."""


async def _first_of(*events: trio.Event) -> None:
    """Wait until one of the events is set."""
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel(reason="another event was first")

        for event in events:
            nursery.start_soon(wait, event)


class Conversation(Storing):
    """A dialogue from its request to its end."""

    __slots__ = ("_healed", "_request")

    def __init__(self, context: Context, sender: Sender, head: RequestHead) -> None:
        super().__init__(context, sender, head)
        self._healed = False
        self._request: Request | None = None

    async def run(self, forwarding: Forwarding) -> bool:
        """Forward the request and answer it; return whether the connection can be used again."""
        outcome = self.outcome
        over = False
        if self.context.traced:
            outcome.traceparent = find_traceparent(self.head.headers)
        try:
            try:
                keep = await self._forward_or_store(forwarding)
            except DuplicateError:
                keep = await self.answer_duplicate()
            except SenderGoneError:
                if outcome.result == "aborted":  # nothing was decided before
                    outcome.slug = "sender-gone"
                keep = False
            if self.claimed:
                # The response is complete, so that a guard that fires now must not break it off.
                self.sender.phase = Phase.LINGERING
                self.sender.within(2 * self.context.settings.queue_timeout)
                await self.settle_claim(taken=self.taken)
        except Exception as error:
            about(error, event_id=outcome.event_id, project=outcome.project, tunnel=outcome.tunnel)
            raise
        else:
            over = True
            return keep
        finally:
            if not over:
                self._cut_short()
            if self.sender.rescue is None:
                self.report()

    async def _forward_or_store(self, forwarding: Forwarding) -> bool:
        try:
            return await self._forward(forwarding)
        except Refusal as refusal:
            return await self.undeliverable(refusal)

    # -- towards the far end ------------------------------------------------------------------------------

    async def _forward(self, forwarding: Forwarding) -> bool:
        context, sender = self.context, self.sender
        self.upload.take(sender)
        if context.drain.late:
            raise Refusal(answers.DRAINING)
        destination = self._destination()
        sender.within(context.settings.request_deadline)
        self.outcome.project = destination.project
        self.forwarding, self.target = forwarding, destination.target
        route = context.table.lookup(destination.project)
        if route is None:
            route = await context.resolver.find(destination.project)
        self.outcome.project_id = route.project_id
        rules = self.rules = context.policies.of(route.project_id)
        if self.head.method in rules.concerned:
            await self._before(rules)
        self._request = self._build(forwarding, destination)
        try:
            exchange = self._open(route)
        except LinkClosed:
            route, exchange = await self._open_elsewhere(route, known_here=True)
        while True:
            self.tried = True
            try:
                return await self._converse(exchange)
            except ExchangeReset as reset:
                again = reset.code in _NOT_THERE and self.upload.kept is not None
                self.tried = reset.code not in _NOT_TRIED
                if self._healed or not again:
                    raise Refusal(answer_to_reset(reset.code)) from None
            finally:
                # Nothing to do when both directions have ended; otherwise nobody wants the rest.
                late = sender.guard.cancel_called
                exchange.reset(ResetCode.DEADLINE if late else ResetCode.CANCELLED)
            route, exchange = await self._open_elsewhere(route, known_here=False)

    async def _before(self, rules: Rules) -> None:
        """Do what a request that may be stored needs before it is tried: commonly nothing.

        Raises `Refusal` when it has to queue behind others, `DuplicateError`.
        """
        context, project_id = self.context, self.outcome.project_id
        if not self.upload.complete and self.may_store():
            self.upload.keep_more(context.buffering.max_body, context.buffering.budget)
        if rules.dedup:
            await self.claim()
        if (
            rules.strict
            and context.backlogs.holds(project_id, block=rules.block)
            and self.may_store()
            and not await context.backlogs.wait_end(project_id, block=rules.block)
        ):
            raise Refusal(answers.BACKLOG)

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
        self.outcome.tunnel = route.tunnel_id
        if self.context.traced:
            self.outcome.opened = trio.current_time()
        try:
            return self.context.trunks.open(route, self._request, body, end=end)
        except TooManyExchanges:
            raise Refusal(answers.OVERLOADED) from None
        except ValueError:
            raise Refusal(answers.HEAD_TOO_LARGE) from None

    async def _open_elsewhere(self, route: Route, *, known_here: bool) -> tuple[Route, Exchange]:
        """Open the exchange where the project is now, `route` having led nowhere. Raises `Refusal`.

        The relay that does not have it knows better than the table, so the directory is asked, once.
        `known_here` says that it is our trunk that is missing: the relay is dying or not quite there yet, so
        the same route may still be right, or the client is on its way to another relay. Both are heard of
        here, and asking for every request would only add to the trouble.
        """
        context = self.context
        if not known_here:
            self._healed = True
            if await context.resolver.again(route) is None:
                raise Refusal(answers.NO_TUNNEL)
        with trio.move_on_after(context.settings.trunk_wait):
            return await self._open_when_possible(route.project)
        route_left = context.table.lookup(route.project)
        raise Refusal(answers.NO_TUNNEL if route_left is None else answers.UNAVAILABLE)

    async def _open_when_possible(self, project: str) -> tuple[Route, Exchange]:
        """Open the exchange as soon as there is a route with a trunk; bound it with a deadline."""
        table, trunks = self.context.table, self.context.trunks
        while True:
            news, changed = table.news(project), trunks.changed
            route = table.lookup(project)
            if route is not None:
                with contextlib.suppress(LinkClosed):
                    return route, self._open(route)
            await _first_of(news, changed)

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
                late = answers.QUEUE_UNAVAILABLE if self.storing else answers.DEADLINE_EXCEEDED
                answer = answers.REQUEST_TIMEOUT if slow_sender else late
                outcome.result = "refused"
                outcome.slug = answer.slug
                outcome.status = answer.status
                sender.parting = self.encode(answer, close=True)
                sender.may_send_more(unfinished=not self.upload.complete)
        if sender.guard.cancel_called and (self.claimed or self.may_rescue()):
            sender.rescue = self
