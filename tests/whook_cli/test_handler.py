"""Exchanges that are answered here or only watched, and defects that stay within one exchange."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.support.deadlines import DEADLINE
from tests.support.far_end import ROUTE, linked, read, request
from tests.support.forwarding import silent_display
from whook.link import Exchange, ExchangeReset, Head, Opener
from whook.wire import WATCH, ResetCode, Response
from whook_cli.handler import Handler
from whook_cli.records import Record, RequestRecord, StatusRecord
from whook_cli.respond import Responder


@asynccontextmanager
async def answering(
    responder: Responder, *, verbose: bool = False
) -> AsyncGenerator[tuple[Opener, list[Record]]]:
    shown: list[Record] = []
    async with linked(Handler(silent_display(shown), responder, verbose=verbose)) as opener:
        yield opener, shown


async def test_the_default_answer() -> None:
    async with answering(Responder()) as (opener, shown):
        answered = await read(opener.open(ROUTE, request(event_id="evt_9"), body=b"abc", end=True))
    assert answered.status == 200
    assert json.loads(answered.body) == {"event_id": "evt_9"}
    record = shown[0]
    assert isinstance(record, RequestRecord)
    assert (record.status, record.request_bytes, record.response_bytes) == (200, 3, len(answered.body))
    assert record.error == ""


async def test_head_and_verbose() -> None:
    async with answering(Responder(202, b"x", b"text/plain"), verbose=True) as (opener, shown):
        answered = await read(opener.open(ROUTE, request(b"HEAD"), end=True))
    assert (answered.status, answered.body) == (202, b"")
    assert isinstance(shown[0], RequestRecord)
    details = shown[0].details
    assert details is not None
    assert details.response_headers == answered.head.headers
    assert details.request_headers == [(b"Host", b"shop.example")]


async def test_a_body_that_waits_to_be_asked_for() -> None:
    headers = [(b"Expect", b"100-Continue"), (b"Content-Length", b"300000")]
    async with answering(Responder()) as (opener, shown):
        exchange = opener.open(ROUTE, request(headers=headers), end=False)
        with trio.fail_after(DEADLINE):
            head = await exchange.receive()
        assert isinstance(head, Head)
        assert head.response.status == 100
        await exchange.send_data(bytes(300_000), end=True)
        assert (await read(exchange)).status == 200
    assert isinstance(shown[0], RequestRecord)
    assert shown[0].request_bytes == 300_000


async def test_watching_answers_nothing() -> None:
    shown: list[Record] = []
    handler = Handler(silent_display(shown), Responder(), verbose=True)
    watched = trio.Event()

    async def watching(exchange: Exchange) -> None:
        assert exchange.watch
        await handler(exchange)
        watched.set()

    async with linked(watching) as opener:
        stream, frame = opener.endpoint.open(ROUTE, request(), end=False)
        as_copy = bytearray(frame)
        as_copy[5] |= WATCH  # the flags, behind length and type: as the relay marks its copies
        data = opener.endpoint.send_data(stream, b"abc", end=True)
        opener.link.send(bytes(as_copy) + data)
        with trio.fail_after(DEADLINE):
            await watched.wait()
    record = shown[0]
    assert isinstance(record, RequestRecord)
    assert (record.watched, record.status, record.request_bytes, record.error) == (True, 0, 3, "")
    assert record.details is not None
    assert record.details.request_body.data == b"abc"


async def test_a_defect_ends_one_exchange_and_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    responder = Responder()

    def broken(event_id: str, method: bytes) -> object:
        raise RuntimeError("oh no")

    monkeypatch.setattr(type(responder), "answer", lambda self, event_id, method: broken(event_id, method))
    async with answering(responder) as (opener, shown):
        with pytest.raises(ExchangeReset) as caught:
            await read(opener.open(ROUTE, request(), end=True))
        assert caught.value.code == ResetCode.INTERNAL
        with pytest.raises(ExchangeReset):
            await read(opener.open(ROUTE, request(), end=True))
    defect, record = shown[:2]
    assert isinstance(defect, StatusRecord)
    assert "RuntimeError: oh no" in defect.text
    assert isinstance(record, RequestRecord)
    assert record.error == "whook failed: RuntimeError('oh no')"


@pytest.mark.parametrize(
    ("code", "message", "shown_as"),
    [
        (ResetCode.CANCELLED, "", "the sender did not wait for the answer"),
        (ResetCode.DEADLINE, "", "the server's deadline for an answer passed"),
        (ResetCode.INTERNAL, "", "INTERNAL"),
        (ResetCode.INTERNAL, "because", "because"),
    ],
)
async def test_why_an_exchange_was_given_up(code: ResetCode, message: str, shown_as: str) -> None:
    started = trio.Event()
    ended = trio.Event()
    shown: list[Record] = []
    handler = Handler(silent_display(shown), Responder(), verbose=False)

    async def watched(exchange: Exchange) -> None:
        started.set()
        try:
            await handler(exchange)
        finally:
            ended.set()

    async with linked(watched) as opener:
        exchange = opener.open(ROUTE, request(), end=False)
        with trio.fail_after(DEADLINE):
            await started.wait()
            exchange.reset(code, message)
            await ended.wait()
    assert isinstance(shown[0], RequestRecord)
    assert shown[0].error == shown_as


async def test_a_lost_tunnel_is_said_at_every_exchange() -> None:
    started = trio.Event()
    ended = trio.Event()
    shown: list[Record] = []
    handler = Handler(silent_display(shown), Responder(), verbose=False)

    async def watched(exchange: Exchange) -> None:
        started.set()
        try:
            await handler(exchange)
        finally:
            ended.set()

    async with linked(watched) as opener:
        opener.open(ROUTE, request(), end=False)
        with trio.fail_after(DEADLINE):
            await started.wait()
            opener.link.close("test")
            await ended.wait()
    assert isinstance(shown[0], RequestRecord)
    assert shown[0].error in ("the peer closed the connection", "the connection broke: the test")


async def test_more_exchanges_than_allowed_are_refused() -> None:
    gate = trio.Event()

    async def wait(exchange: Exchange) -> None:
        await gate.wait()
        exchange.send_head(Response(204, b"", []), end=True)

    async with linked(wait, max_exchanges=2) as opener:
        first = [opener.open(ROUTE, request(), end=True) for _ in range(2)]
        with pytest.raises(ExchangeReset) as caught:
            await read(opener.open(ROUTE, request(), end=True))
        assert caught.value.code == ResetCode.OVERLOADED
        gate.set()
        assert [(await read(exchange)).status for exchange in first] == [204, 204]
