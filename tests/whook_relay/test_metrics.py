"""What a relay publishes about its tunnels, trunks and the requests through it."""

from __future__ import annotations

import pytest
import trio

from tests.support.links import read, reset_of, until
from tests.support.relay import hello, open_relay, opened
from whook.chassis.metrics import REGISTRY
from whook.chassis.tunnel_token import SigningKey
from whook.link import Exchange, HandshakeRefused, TrunkRefused
from whook.wire import ResetCode


async def stuck(_: Exchange) -> None:
    await trio.sleep_forever()


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_tunnels_and_requests_are_counted() -> None:
    async with open_relay() as relay, relay.conductor() as conductor:
        await until(lambda: sample("whook_trunks_opened_total") == 1)
        assert sample("whook_lease_held", lease="relay") == 1
        async with relay.client() as client:
            assert sample("whook_tunnels") == 1
            assert sample("whook_tunnels_opened_total", mode="answer") == 1
            assert sample("whook_tunnel_opening_seconds_count") == 1
            assert (await read(opened(conductor, client, b"hello")))[1] == b"hello"
            await until(lambda: not relay.circuits)
            assert sample("whook_relay_exchanges_total") == 1
            assert sample("whook_relay_exchange_seconds_count") == 1
            for link in ("tunnel", "trunk"):
                for direction in ("received", "sent"):
                    kinds = {"link": link, "end": "relay", "direction": direction}
                    assert (sample("whook_link_bytes_total", **kinds) or 0) > len(b"hello")
        await until(lambda: sample("whook_tunnels_closed_total") == 1)
        assert sample("whook_relay_exchanges_lost_total") == 0
    assert sample("whook_tunnels") is None


async def test_requests_lost_with_their_tunnel_are_counted() -> None:
    async with open_relay() as relay, relay.conductor() as conductor:
        async with relay.client(stuck) as client:
            exchange = opened(conductor, client)
            await until(lambda: client.answerer.running == 1)
            assert sample("whook_relay_circuits") == 1
        assert (await reset_of(exchange)).code == ResetCode.TUNNEL_LOST
        assert sample("whook_relay_exchanges_lost_total") == 1
        assert sample("whook_relay_circuits") == 0


async def test_those_that_get_no_tunnel_are_counted_by_the_reason() -> None:
    async with open_relay() as relay, relay.client():
        with pytest.raises(HandshakeRefused):
            async with relay.dial(key=SigningKey.generate()):
                pass
        assert sample("whook_tunnels_refused_total", reason="unauthorized") == 1
        await relay.refusal(hello(instance="another"))  # the project is held
        assert sample("whook_tunnels_refused_total", reason="goaway-held") == 1
        assert sample("whook_tunnels_opened_total", mode="answer") == 1
        assert sample("whook_tunnels_closed_total") == 0


async def test_a_conductor_with_another_key_is_counted() -> None:
    """It finds out first, and goes."""
    async with open_relay() as relay:
        with pytest.raises(TrunkRefused):
            async with relay.conductor("another key"):
                pass
        await until(lambda: sample("whook_trunks_refused_total", reason="introduction") == 1)
        assert sample("whook_trunks_opened_total") == 0
