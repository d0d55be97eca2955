"""What the parts of a conversation share: its state, and the response as it goes back to the sender.

`conversation` runs a `Dialogue` from its request to its end and decides where the request goes; `streams`
carries it where more than one thing happens at a time. Knows neither of them, and opens no exchange.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import trio

from whook.chassis.drain import Drain
from whook.chassis.ids import new_id
from whook.http1 import RequestHead
from whook.link import Data, End, Exchange, Head, Item
from whook.wire import ResetCode, Response
from whook_conductor import answers
from whook_conductor.addressing import Addressing
from whook_conductor.backlogs import BacklogTable
from whook_conductor.buffering import Buffering
from whook_conductor.capture import Capture, CaptureLimits
from whook_conductor.outcomes import Outcome, OutcomeRecorder
from whook_conductor.policies import Policies
from whook_conductor.reply import BadAnswerError, Reply, interim_head
from whook_conductor.resolver import Refusal, Resolver
from whook_conductor.routes import RouteTable
from whook_conductor.sender import Sender
from whook_conductor.settings import ConductorSettings
from whook_conductor.trunks import Trunks
from whook_conductor.upload import Upload

CONTINUE: Final = 100
SWITCHING_PROTOCOLS: Final = 101
FIRST_FINAL: Final = 200


@dataclass(frozen=True, slots=True)
class Context:
    """What all conversations of a conductor share."""

    settings: ConductorSettings
    addressing: Addressing
    table: RouteTable
    resolver: Resolver
    trunks: Trunks
    recorder: OutcomeRecorder
    drain: Drain
    policies: Policies
    backlogs: BacklogTable
    buffering: Buffering
    capture: CaptureLimits | None = None
    """None where there is no history."""
    traced: bool = False
    """Whether outcomes are to have what their spans need."""


class Dialogue:
    """One request, its response, and the connection they travel on."""

    __slots__ = (
        "awaiting_sender",
        "capture",
        "context",
        "continued",
        "head",
        "outcome",
        "sender",
        "upgrade",
        "upload",
    )

    def __init__(self, context: Context, sender: Sender, head: RequestHead) -> None:
        self.context = context
        self.sender = sender
        self.head = head
        self.capture = None if context.capture is None else Capture(context.capture)
        self.upload = Upload(self.capture)
        self.upgrade = head.upgrade and not head.chunked and not head.content_length
        """Another protocol is wanted. One asked for with a body is not offered: its end could not be told."""
        self.continued = False
        """The far end said 100 (Continue)."""
        self.awaiting_sender = False
        """The rest of the request is being waited for."""
        self.outcome = Outcome(
            new_id("evt"), head.method, head.target, sender.host, time.time(), trio.current_time()
        )

    async def final_head(self, exchange: Exchange) -> Head:
        """Return the final head, having passed on the informational ones before it.

        Raises `ExchangeReset`, `Refusal`, `SenderGoneError`.
        """
        while True:
            item = await exchange.receive()
            assert isinstance(item, Head), item
            status = item.response.status
            if status >= FIRST_FINAL:
                return item
            if status == SWITCHING_PROTOCOLS:
                if self.upgrade:
                    return item
                exchange.reset(ResetCode.PROTOCOL, "101 was not asked for")
                raise Refusal(answers.BAD_ANSWER)
            await self._pass_on(item.response)

    async def _pass_on(self, informational: Response) -> None:
        self.continued = self.continued or informational.status == CONTINUE
        if self.head.version == b"1.0":
            return  # RFC 9110 section 15.2: never sent to a 1.0 client
        try:
            data = interim_head(informational)
        except BadAnswerError:
            raise Refusal(answers.BAD_ANSWER) from None
        await self.sender.write(data)

    def begin_reply(self, response: Response) -> Reply:
        """Return the reply that `response` becomes; from here on the request is not sent again.

        Raises `Refusal` when it cannot be passed on.
        """
        outcome, head, upload = self.outcome, self.head, self.upload
        upload.keep_no_longer()
        # A sender that waits for a 100 which will not come may leave its body out: what follows on the
        # connection could then be taken for one or the other (RFC 9110 section 10.1.1).
        undecided = head.expect_continue and not self.continued and not upload.received
        close = self.context.drain.announced or (undecided and not upload.complete)
        try:
            reply = Reply(head, response, close=close)
        except BadAnswerError:
            raise Refusal(answers.BAD_ANSWER) from None
        if self.capture is not None:
            self.capture.response_head(response)
        outcome.status = response.status
        outcome.to_head = trio.current_time() - outcome.began
        return reply

    def gather(self, exchange: Exchange, reply: Reply, out: list[bytes], item: Item | None) -> bool:
        """Frame `item` and everything else that is here already into `out`; return whether it is the end.

        Raises `ExchangeReset`, and `Refusal` when the body does not keep to its framing.
        """
        capture = self.capture
        try:
            while item is not None:
                if isinstance(item, Data):
                    self.outcome.sent += len(item.data)
                    if capture is not None:
                        capture.response_data(item.data, self.outcome.sent)
                    out.append(reply.body(item.data))
                elif isinstance(item, End):
                    if capture is not None:
                        capture.response_trailers(item.trailers)
                    out.append(reply.end(item.trailers))
                    return True
                if item.ended:
                    out.append(reply.end([]))
                    return True
                item = exchange.receive_nowait()
        except BadAnswerError:
            raise Refusal(answers.BAD_ANSWER) from None
        return False

    def answered(self) -> None:
        """Note that the whole response has been written."""
        self.outcome.result = "answered"

    def remember(self, target: bytes, *, trusted: bool) -> None:
        """Put into the outcome, which is complete, what the history is to know; nothing without a project."""
        if self.capture is None:
            return
        if not self.outcome.project_id:
            self.capture.drop()
        else:
            self.capture.into(
                self.outcome,
                self.head,
                peer=self.sender.host,
                trusted=trusted,
                target=target,
                trailers=self.upload.trailers,
                complete=self.upload.complete,
            )

    def reusable(self, reply: Reply) -> bool:
        """Return whether the connection can be used again after `reply`, which has been written."""
        if self.upload.complete and not reply.closes:
            return True
        # A sender that did not itself ask for the end may have sent more, which would turn our close into a
        # reset.
        if self.head.keep_alive or not self.upload.complete:
            self.sender.may_send_more(unfinished=not self.upload.complete)
        return False
