"""The relay's lines and spans of exchanges: one for each that was chosen, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from tests.support.deadlines import DEADLINE
from tests.support.links import read, reset_of, until
from tests.support.relay import open_relay, opened
from whook.chassis.verbosity import VERBOSITY
from whook.link import Exchange
from whook.telemetry.traceparent import span_id
from whook.telemetry.tracing import Tracer
from whook.wire import ResetCode
from whook_relay.observed import REFUSALS_PER_SECOND

Lines = list[Any]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is logged at the level debug."""
    with capture_logs() as found:
        VERBOSITY.level = "debug"
        yield found
        VERBOSITY.level = "info"


def of(lines: Lines, event: str) -> Lines:
    return [line for line in lines if line["event"] == event]


async def stuck(_: Exchange) -> None:
    await trio.sleep_forever()


async def test_an_exchange_that_was_carried(lines: Lines) -> None:
    async with open_relay() as relay, relay.client() as client, relay.conductor() as conductor:
        exchange = opened(conductor, client, b"hello")
        await read(exchange)
        await until(lambda: not relay.tables.get("observed"))
        (line,) = of(lines, "exchange carried")
        assert line["event_id"] == exchange.request.event_id
        assert line["tunnel"] == client.route.decode()
        assert line["attempt"] == exchange.request.attempt
        assert "hello" not in str(line)


async def test_exchanges_that_were_broken_off(lines: Lines) -> None:
    async with open_relay() as relay, relay.conductor() as conductor:
        async with relay.client(stuck) as client:
            given_up = opened(conductor, client)
            await until(lambda: relay.circuits == 1)
            given_up.reset(ResetCode.CANCELLED)
            await until(lambda: not relay.circuits)
            assert [line["reason"] for line in of(lines, "exchange broken off")] == ["broken off"]
            lost = opened(conductor, client)
            await until(lambda: relay.circuits == 1)
        await reset_of(lost)
        await until(lambda: not relay.circuits)
    assert len(of(lines, "exchange broken off")) == 2


async def test_refusals_are_told_with_their_event_also_while_nothing_is_on() -> None:
    with capture_logs() as lines:
        async with open_relay() as relay, relay.conductor() as conductor:
            for _ in range(3 * REFUSALS_PER_SECOND):
                exchange = opened(conductor, b"tun_nobody")
                assert (await reset_of(exchange)).code == ResetCode.NO_TUNNEL
            assert not relay.tables.get("observed")
    told = of(lines, "exchange refused")
    assert REFUSALS_PER_SECOND <= len(told) < 3 * REFUSALS_PER_SECOND
    assert (told[0]["event_id"], told[0]["tunnel"]) == (exchange.request.event_id, "tun_nobody")
    assert told[0]["problem"] == "no_tunnel"


async def test_nothing_is_told_or_kept_while_nothing_is_on() -> None:
    with capture_logs() as lines:
        async with open_relay() as relay, relay.client(stuck) as client, relay.conductor() as conductor:
            opened(conductor, client)
            await until(lambda: relay.circuits == 1)
            assert "observed" not in relay.tables
    assert not [line for line in lines if line["event"].startswith("exchange")]


async def test_a_share_gets_lines(lines: Lines) -> None:
    VERBOSITY.level = "info"
    VERBOSITY.share = 1.0
    try:
        async with open_relay() as relay, relay.client() as client, relay.conductor() as conductor:
            await read(opened(conductor, client))
            await until(lambda: not relay.tables.get("observed"))
    finally:
        VERBOSITY.share = 0.0
    assert len(of(lines, "exchange carried")) == 1


async def test_an_exchange_is_a_span_below_that_of_the_trunk() -> None:
    async with open_relay() as relay, relay.client() as client, relay.conductor() as conductor:
        tracer = relay.switch._tracer = Tracer(1.0)
        exchange = opened(conductor, client)
        await read(exchange)
        with trio.fail_after(DEADLINE):
            await tracer.gathered()
        (span,) = tracer.take()
        event_id, attempt = exchange.request.event_id, exchange.request.attempt
        assert span.parent == span_id(event_id, attempt, "trunk")
        assert span.id == span_id(event_id, attempt, "tunnel")
        assert span.attributes["whook.tunnel"] == client.route.decode()
        assert span.error == ""
