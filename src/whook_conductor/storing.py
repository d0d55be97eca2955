"""A dialogue that can end in the queue: what is stored of a request, when, and what its sender is told.

`conversation` builds on it. Acknowledged is only what `Buffering.store` has stored. Also here: the answers
that the conductor gives itself, and deduplication, because both end the request without the far end.
"""

from __future__ import annotations

import contextlib
from typing import Final

import structlog
import trio

from whook.backplane.ports import StoredEvent, Unavailable
from whook.http1 import RequestHead
from whook_conductor import answers, dedup
from whook_conductor.answers import Answer, encode_acknowledgement, encode_answer
from whook_conductor.buffering import MAX_INLINE
from whook_conductor.dialogue import Context, Dialogue
from whook_conductor.forwarding import Forwarding
from whook_conductor.policies import DEFAULT, Rules
from whook_conductor.resolver import Refusal
from whook_conductor.sender import Phase, Sender, SenderGoneError

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SLACK: Final = 5.0
"""Seconds that the sender's guard leaves to what has a limit of its own."""
_FIRST_FAILED: Final = 400

_log = structlog.get_logger("whook.conductor.storing")


class DuplicateError(Exception):
    """A webhook with the same delivery id has been taken before."""


class Storing(Dialogue):
    """A dialogue whose request may be stored, or refused."""

    __slots__ = ("_claimed", "forwarding", "rules", "storing", "target", "tried")

    def __init__(self, context: Context, sender: Sender, head: RequestHead) -> None:
        super().__init__(context, sender, head)
        self.rules: Rules = DEFAULT
        self.forwarding: Forwarding | None = None
        self.target = head.target
        self.tried = False
        """A far end may have got the request."""
        self.storing = False
        self._claimed = ""

    # -- refused, or stored ----------------------------------------------------------------------------

    async def undeliverable(self, refusal: Refusal) -> bool:
        """Store the request, or answer with the refusal; return whether the connection can be used again.

        Raises `DuplicateError`, `SenderGoneError`.
        """
        if refusal.project_id:
            self.outcome.project_id = refusal.project_id
            self.rules = self.context.policies.of(refusal.project_id)
            if self.rules.dedup and not self.claimed and self.head.method in self.rules.concerned:
                try:
                    await self.claim()
                except Refusal as running:
                    return await self.refuse(running.answer)
        if refusal.answer not in answers.BUFFERABLE or not self.may_store():
            return await self.refuse(refusal.answer)
        close = self.context.drain.announced
        data = await self._store(refusal.answer, close=close)
        head, sender = self.head, self.sender
        reuse = self.upload.complete and head.keep_alive and not close
        if self.outcome.result != "buffered" and head.version == b"1.0":
            reuse = False  # as `_refusal` has said
        if not reuse and (head.keep_alive or not self.upload.complete):
            sender.may_send_more(unfinished=not self.upload.complete)
        sender.phase = Phase.RESPONDING
        sender.within(self.context.settings.write_timeout)
        await sender.write(data)
        return reuse

    def may_store(self) -> bool:
        """Return whether the project wants it and all of the request is at hand or can still be had."""
        head, upload = self.head, self.upload
        return (
            head.method in self.rules.methods
            and self.sender.phase is Phase.WAITING
            and upload.storable
            and not self.upgrade
            and bool(self.outcome.project_id)
            and (head.content_length or 0) <= self.context.buffering.max_body
            and upload.received <= self.context.buffering.max_body
        )

    async def _store(self, why: Answer, *, close: bool) -> bytes:
        """Store the request; return the acknowledgement or the refusal as bytes.

        Raises `SenderGoneError`.
        """
        outcome, context = self.outcome, self.context
        outcome.slug = why.slug
        try:
            if not await self.take_rest():
                return self._refusal(why, close=close)
        except Refusal as refusal:
            return self._refusal(refusal.answer, close=True)
        body = self.upload.all()
        event = self.event(body)
        self.storing = True
        self.sender.within(context.settings.queue_timeout + _SLACK)
        refused = await context.buffering.store(event, body, self.rules, attempts=int(self.tried))
        if refused is not None:
            self.storing = False
            return self._refusal(refused, close=close)
        policy, head = self.rules.policy, self.head
        outcome.result = "buffered"
        outcome.event = event
        outcome.status = policy.buffered_status
        await self.settle_claim(taken=True)
        return encode_acknowledgement(
            event.id,
            status=policy.buffered_status,
            body=policy.buffered_body,
            content_type=policy.buffered_content_type,
            head_only=head.method == b"HEAD",
            keep_alive=head.keep_alive and not close,
            http_1_0=head.version == b"1.0",
        )

    async def take_rest(self) -> bool:
        """Receive what is still to come of the body; return whether all of it has been kept.

        Raises `Refusal` for what is no body, `SenderGoneError`.
        """
        upload, sender, limit = self.upload, self.sender, self.context.buffering.max_body
        self.awaiting_sender = False
        if upload.complete:
            return upload.storable
        if not upload.storable:
            return False
        upload.keep_more(limit, self.context.buffering.budget)
        upload.take(sender)
        if self.head.expect_continue and not self.continued and not upload.received and not upload.complete:
            await sender.write(_CONTINUE)
            self.continued = True
        self.awaiting_sender = True
        while not upload.complete:
            sender.within(self.context.settings.request_deadline)
            while not sender.events:
                await sender.read_more()
                if sender.eof and not sender.events:
                    raise SenderGoneError
            upload.take(sender)
            if not upload.storable or upload.received > limit:
                self.awaiting_sender = False
                return False
        self.awaiting_sender = False
        return True

    def event(self, body: bytes) -> StoredEvent:
        """Return the request as it is stored; a long body is stored apart."""
        outcome, head = self.outcome, self.head
        assert self.forwarding is not None
        return StoredEvent(
            id=outcome.event_id,
            project_id=outcome.project_id,
            project=outcome.project,
            received_at=outcome.received_at,
            peer=self.sender.host,
            trusted=self.forwarding.trusted,
            scheme=self.context.settings.public_scheme,
            version=head.version,
            method=head.method,
            target=self.target,
            headers=head.headers,
            body_size=len(body),
            body=body if len(body) <= MAX_INLINE else None,
            trailers=self.upload.trailers,
        )

    async def refuse(self, answer: Answer) -> bool:
        """Answer instead of the far end, or break off where a response has begun already."""
        sender, head, upload = self.sender, self.head, self.upload
        self.outcome.slug = answer.slug
        if sender.phase is not Phase.WAITING:
            if sender.phase is Phase.RESPONDING:
                sender.abort()
            return False
        reuse = upload.complete and head.keep_alive and head.version != b"1.0"
        close = self.context.drain.announced or not reuse
        data = self._refusal(answer, close=close)
        sender.phase = Phase.RESPONDING
        if close and (head.keep_alive or not upload.complete):
            sender.may_send_more(unfinished=not upload.complete)
        sender.within(self.context.settings.write_timeout)
        with contextlib.suppress(SenderGoneError):
            await sender.write(data)
        return not close

    def _refusal(self, answer: Answer, *, close: bool) -> bytes:
        outcome = self.outcome
        outcome.result = "refused"
        outcome.slug = answer.slug
        outcome.status = answer.status
        # RFC 9112 section 9.3: a 1.0 client does not expect the connection to stay.
        end = close or not self.upload.complete or not self.head.keep_alive or self.head.version == b"1.0"
        return self.encode(answer, close=end)

    def encode(self, answer: Answer, *, close: bool) -> bytes:
        """Return an answer as bytes."""
        head_only = self.head.method == b"HEAD"
        return encode_answer(answer, head_only=head_only, close=close, event_id=self.outcome.event_id)

    # -- the same webhook again ------------------------------------------------------------------------

    async def claim(self) -> None:
        """Claim the webhook's delivery id, where it has one.

        Raises `DuplicateError` when it was taken before, `Refusal` when it is being handled just now, and
        `SenderGoneError`. A queue that does not answer lets the webhook pass: twice is better than never.
        """
        if (found := await self._delivery_id()) is None:
            return
        key = f"{self.outcome.project_id}:{found}"
        # A conductor that dies leaves its claim behind: it must end when no delivery can be under way.
        seconds = 2 * (self.context.settings.request_deadline + self.context.settings.queue_timeout)
        try:
            with trio.fail_after(self.context.settings.queue_timeout):
                known = await self.context.buffering.queue.remember(key, seconds, settled=False)
        except (Unavailable, trio.TooSlowError) as error:
            _log.warning("duplicates cannot be told", error=str(error) or "too slow")
            return
        if known == "done":
            raise DuplicateError
        if known == "running":
            raise Refusal(answers.DUPLICATE_RUNNING)
        self._claimed = key

    async def _delivery_id(self) -> str | None:
        headers = self.head.headers
        configured = self.rules.policy.dedup_header.lower().encode("ascii", "replace")
        found = dedup.header_id(headers, configured)
        if found is not None or configured or not dedup.in_body(headers):
            return found
        if (self.head.content_length or dedup.MAX_BODY + 1) > dedup.MAX_BODY and not self.upload.complete:
            return None
        if not await self.take_rest() or self.upload.received > dedup.MAX_BODY:
            return None
        return dedup.body_id(self.upload.all())

    async def settle_claim(self, *, taken: bool) -> None:
        """Say what became of the delivery whose id was claimed. Raises nothing: a claim ends by itself."""
        key, self._claimed = self._claimed, ""
        if not key:
            return
        queue = self.context.buffering.queue
        try:
            with trio.fail_after(self.context.settings.queue_timeout):
                if taken:
                    await queue.remember(key, self.rules.policy.dedup_window, settled=True)
                else:
                    await queue.forget(key)
        except (Unavailable, trio.TooSlowError) as error:
            _log.warning("a delivery id cannot be noted", error=str(error) or "too slow")

    async def answer_duplicate(self) -> bool:
        """Acknowledge what was taken before; return whether the connection can be used again."""
        outcome, sender, head = self.outcome, self.sender, self.head
        keep = self.upload.complete and head.keep_alive and not self.context.drain.announced
        outcome.result, outcome.slug, outcome.status = "refused", "duplicate", 200
        sender.phase = Phase.RESPONDING
        if not keep and (head.keep_alive or not self.upload.complete):
            sender.may_send_more(unfinished=not self.upload.complete)
        sender.within(self.context.settings.write_timeout)
        await sender.write(
            encode_acknowledgement(
                outcome.event_id,
                status=200,
                said="duplicate",
                head_only=head.method == b"HEAD",
                keep_alive=keep,
                http_1_0=head.version == b"1.0",
            )
        )
        return keep

    @property
    def claimed(self) -> bool:
        """A claim of ours has to be settled."""
        return bool(self._claimed)

    @property
    def taken(self) -> bool:
        """The sender has been told that all is well, and will not send it again."""
        return self.outcome.result in ("answered", "buffered") and 0 < self.outcome.status < _FIRST_FAILED

    # -- when the deadline has passed ------------------------------------------------------------------

    async def rescue(self) -> None:
        """Store what got no answer in time, and leave the answer in `Sender.parting`.

        Runs after the sender's guard has fired, so everything here has a limit of its own.
        """
        settings = self.context.settings
        try:
            if self.sender.phase is Phase.WAITING and self.sender.parting and self.may_rescue():
                with (
                    contextlib.suppress(SenderGoneError),
                    trio.move_on_after(settings.request_deadline + settings.queue_timeout),
                ):
                    self.sender.parting = await self._store(answers.DEADLINE_EXCEEDED, close=True)
                    self.sender.may_send_more(unfinished=not self.upload.complete)
            if self.claimed:
                await self.settle_claim(taken=self.taken)
        finally:
            self.report()

    def may_rescue(self) -> bool:
        """Return whether it is the far end that was late, and the request can be stored."""
        return self.outcome.slug == answers.DEADLINE_EXCEEDED.slug and self.may_store()

    def report(self) -> None:
        """Report what became of the request, once."""
        outcome = self.outcome
        self.sender.rescue = None
        self.upload.keep_no_longer()
        outcome.duration = trio.current_time() - outcome.began
        outcome.received = self.upload.received
        if outcome.result == "buffered" and not self.tried:
            outcome.attempt = 0
        self.remember(self.target, trusted=self.forwarding is not None and self.forwarding.trusted)
        self.context.recorder.record(outcome)
