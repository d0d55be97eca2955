"""Two ends joined by two queues of bytes, driven at random: they never disagree, and nothing is left over."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.wire_talk import ROUTE, request, response
from whook.wire import (
    INITIAL_CREDIT,
    MAX_PAYLOAD,
    CreditExceeded,
    CreditReceived,
    DataReceived,
    Ended,
    Endpoint,
    FrameReader,
    HeadReceived,
    Opened,
    ResetCode,
    Role,
    Stream,
    WasReset,
)
from whook.wire.streams import Phase

seldom = st.integers(0, 9).map(lambda number: number == 7)
"""True now and then: what ends a stream must not end every one before it has come far."""


@dataclass
class Half:
    """A stream at one end, as its task would see it."""

    stream: Stream
    waiting: list[int] = field(default_factory=list)
    """Sizes of received pieces that have not been taken."""
    sent: int = 0
    received: int = 0
    ended: bool = False
    reset: bool = False


class End:
    """One end, its table of halves and the bytes on their way to the other."""

    def __init__(self, role: Role) -> None:
        self.endpoint = Endpoint(role)
        self.out = b""
        self.halves: dict[int, Half] = {}
        self._reader = FrameReader()

    def receive(self, data: bytes) -> None:
        for event in self.endpoint.receive(self._reader.feed(data)):
            if isinstance(event, Opened):
                self.halves[event.stream.id] = Half(event.stream, ended=event.ended)
                continue
            assert isinstance(event, HeadReceived | DataReceived | Ended | WasReset | CreditReceived)
            half = self.halves[event.stream.id]
            if isinstance(event, WasReset):
                assert event.code != ResetCode.PROTOCOL, event.message
                half.reset = True
                continue
            assert not half.reset
            if isinstance(event, CreditReceived):
                continue
            assert not half.ended
            half.ended = event.ended
            if isinstance(event, DataReceived):
                half.received += len(event.data)
                half.waiting.append(len(event.data))
        self.out += self.endpoint.take_replies()

    def take(self, half: Half) -> None:
        self.out += self.endpoint.consume(half.stream, half.waiting.pop(0))


class BackToBack(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ends = (End(Role.OPENER), End(Role.ANSWERER))

    @initialize(bodies=st.lists(st.booleans(), min_size=1, max_size=2))
    def begin(self, bodies: list[bool]) -> None:
        for body in bodies:
            self.open(body)
        self.keep_up()

    @precondition(lambda self: len(self.ends[0].endpoint.streams) < 3)
    @rule(body=st.booleans())
    def open(self, body: bool) -> None:
        end = self.ends[0]
        stream, data = end.endpoint.open(ROUTE, request(), end=not body)
        end.halves[stream.id] = Half(stream)
        end.out += data

    def sending(self, side: int, phase: Phase) -> list[Half]:
        return [half for half in self.ends[side].halves.values() if half.stream.local is phase]

    @precondition(lambda self: self.sending(1, Phase.HEAD))
    @rule(which=st.data(), status=st.sampled_from([200, 101, 103]), end=seldom)
    def send_head(self, which: st.DataObject, status: int, end: bool) -> None:
        half = which.draw(st.sampled_from(self.sending(1, Phase.HEAD)))
        end = end and status >= 200
        self.ends[1].out += self.ends[1].endpoint.send_head(half.stream, response(status), end=end)

    @rule(
        side=st.integers(0, 1),
        which=st.data(),
        size=st.sampled_from([MAX_PAYLOAD, 65_536, 100_000, 1, 0]),
        end=seldom,
    )
    def send_data(self, side: int, which: st.DataObject, size: int, end: bool) -> None:
        if not (halves := self.sending(side, Phase.BODY)):
            return
        half, endpoint = which.draw(st.sampled_from(halves)), self.ends[side].endpoint
        if size > half.stream.credit:
            with pytest.raises(CreditExceeded):
                endpoint.send_data(half.stream, bytes(size))
            size = half.stream.credit
        self.ends[side].out += endpoint.send_data(half.stream, bytes(size), end=end)
        half.sent += size

    @rule(side=st.integers(0, 1), which=st.data(), really=seldom)
    def send_end(self, side: int, which: st.DataObject, really: bool) -> None:
        if really and (halves := self.sending(side, Phase.BODY)):
            half = which.draw(st.sampled_from(halves))
            self.ends[side].out += self.ends[side].endpoint.send_end(half.stream, [(b"a", b"b")])

    @rule(side=st.integers(0, 1), which=st.data())
    def take(self, side: int, which: st.DataObject) -> None:
        if halves := [half for half in self.ends[side].halves.values() if half.waiting]:
            self.ends[side].take(which.draw(st.sampled_from(halves)))

    @rule(side=st.integers(0, 1), which=st.data(), really=seldom)
    def give_up(self, side: int, which: st.DataObject, really: bool) -> None:
        end = self.ends[side]
        if really and end.endpoint.streams:
            number = which.draw(st.sampled_from(sorted(end.endpoint.streams)))
            end.out += end.endpoint.reset(end.halves[number].stream, ResetCode.CANCELLED)
            end.halves[number].reset = True

    @rule(side=st.integers(0, 1), size=st.sampled_from([1, 9, 10, 11, 40, 70_000, 10**9]))
    def deliver(self, side: int, size: int) -> None:
        end = self.ends[side]
        data, end.out = end.out[:size], end.out[size:]
        self.ends[1 - side].receive(data)

    @rule()
    def keep_up(self) -> None:
        """Let everything arrive and be taken."""
        for side in (0, 1):
            self.deliver(side, 10**9)
        for end in self.ends:
            for half in end.halves.values():
                while half.waiting:
                    end.take(half)

    @rule(side=st.integers(0, 1), which=st.data(), times=st.integers(2, 4))
    def send_much(self, side: int, which: st.DataObject, times: int) -> None:
        """Send all that credit allows, and again once the other end has taken it."""
        if not (halves := self.sending(side, Phase.BODY)):
            return
        half = which.draw(st.sampled_from(halves))
        for _ in range(times):
            if half.stream.local is Phase.BODY:
                size = min(half.stream.credit, MAX_PAYLOAD)
                self.ends[side].out += self.ends[side].endpoint.send_data(half.stream, bytes(size))
                half.sent += size
            self.keep_up()

    @invariant()
    def credit_is_kept(self) -> None:
        for end in self.ends:
            for half in end.halves.values():
                assert half.stream.credit >= 0
                assert half.stream.window >= 0
                assert sum(half.waiting) <= INITIAL_CREDIT

    def teardown(self) -> None:
        """Let everything finish: whoever has credit sends, whoever has data takes it."""
        for _ in range(3):
            self.keep_up()
        for side, end in enumerate(self.ends):
            for half in self.sending(side, Phase.BODY):
                assert half.stream.credit > INITIAL_CREDIT // 2, "a sender is stuck"
                end.out += end.endpoint.send_end(half.stream, [])
            for half in self.sending(side, Phase.HEAD):
                end.out += end.endpoint.send_head(half.stream, response(), end=True)
        for side in (0, 1, 0):
            self.deliver(side, 10**9)
        assert self.ends[0].endpoint.streams == self.ends[1].endpoint.streams == {}
        for number, near in self.ends[0].halves.items():
            far = self.ends[1].halves.get(number)
            assert far is not None
            if not near.reset and not far.reset:
                assert near.ended
                assert far.ended
                assert (near.sent, far.sent) == (far.received, near.received)


TestBackToBack = BackToBack.TestCase
TestBackToBack.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
