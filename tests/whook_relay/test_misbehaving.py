"""A client that breaks the rules hurts itself; its trunk and the others on it do not notice."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.deadlines import DEADLINE
from tests.support.links import read, read_head, reset_of, until
from tests.support.relay import Relay, hello, open_relay, opened
from tests.support.wire_talk import frame, frames
from whook.link import Exchange, Link, LinkClosed, Opener
from whook.wire import (
    INITIAL_CREDIT,
    PING_FRAME,
    FrameReader,
    GoAwayCode,
    ResetCode,
    Response,
    decode_goaway,
    encode_frame,
    encode_hello,
    encode_response,
)


@dataclass
class Scene:
    """A relay with a client that keeps the rules, one that the test plays, and the trunk that they share."""

    relay: Relay
    conductor: Opener
    honest: bytes
    rogue: Link
    rogue_route: bytes

    async def exchange(self, body: bytes = b"", *, end: bool = True) -> Exchange:
        """Open an exchange with the rogue, and wait until it has reached its tunnel."""
        exchange = opened(self.conductor, self.rogue_route, body, end=end)
        await until(lambda: exchange.failure or self.relay.circuits)
        return exchange

    async def says(self, data: bytes) -> None:
        """Let the rogue send bytes."""
        await self.rogue.send_now(data)

    async def sent_away(self) -> str:
        """Receive on the rogue's tunnel until a GOAWAY; give its code and message."""
        reader = FrameReader()
        with trio.fail_after(DEADLINE):
            while True:
                for kind, _, _, payload in reader.feed(await self.rogue._transport.receive()):
                    if kind == 8:
                        goaway = decode_goaway(payload)
                        return f"{GoAwayCode(goaway.code).name}: {goaway.message}"

    async def unharmed(self) -> None:
        """The trunk and the honest client still work, and only the rogue's exchanges are gone."""
        assert await read(opened(self.conductor, self.honest, b"still here")) == ([200], b"still here", [])
        assert not self.conductor.link.closed
        await until(lambda: not self.relay.circuits)


@asynccontextmanager
async def scene() -> AsyncGenerator[Scene]:
    async with (
        open_relay() as relay,
        relay.client() as honest,
        relay.conductor() as conductor,
        relay.dial(project="rogue") as rogue,
    ):
        await rogue.send_now(encode_hello(hello("cli_r")))
        answer = await rogue.receive_hello()
        yield Scene(relay, conductor, honest.route, rogue, answer.tunnel_id.encode())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame("HEAD 2 200"), "frame of type 3 for stream 2, never opened"),
        (frame("DATA 4000000000 'x'"), "frame of type 4 for stream 4000000000, never opened"),
        (frame("OPEN 1"), "a client may not send a frame of type 2"),
        (frame("OPEN 9"), "frame of type 2 for stream 9, never opened"),
        (encode_hello(hello()), "frame of type 1 without a stream"),
        (encode_frame(1, 0, 1), "a client may not send a frame of type 1"),
        (encode_frame(8, 0, 1), "a client may not send a frame of type 8"),
        (encode_frame(4, 0, 0, b"x"), "frame of type 4 without a stream"),
        (b"\0\0\0\0\x63\0\0\0\0\1", "unknown frame type 99"),
        (b"\0\x04\0\1\4\0\0\0\0\1", "frame payload of 262145 bytes is above the limit of 262144"),
    ],
)
async def test_faults_of_the_link_end_the_tunnel(data: bytes, why: str) -> None:
    async with scene() as play:
        exchange = await play.exchange()
        await play.says(data)
        assert await play.sent_away() == f"PROTOCOL: {why}"
        reset = await reset_of(exchange)
        assert (reset.code, reset.message) == (ResetCode.TUNNEL_LOST, f"protocol error: {why}")
        await play.unharmed()
        await until(lambda: len(play.relay.switch.tunnels) == 1)
        assert await play.relay.holder("rogue") == ""


@pytest.mark.parametrize(
    "data",
    [
        frame("DATA 1 'before its head'"),
        frame("END 1"),
        frames("HEAD 1 200", "HEAD 1 200"),
        frames("HEAD 1 103 end"),
        frames("HEAD 1 200 end", "DATA 1 'more'"),
        encode_frame(3, 0, 1, b"\xc1"),
        encode_frame(3, 0, 1, b"\x93\xcc\xc8\xc4\x00\x90" + b"\x91" * 50_000),
        encode_frame(3, 0, 1, b"\x94\xcc\xc8\xc4\x00\x90" + b"\x91" * 100_000 + b"\1"),
        frame("HEAD 1 200") + encode_frame(5, 0, 1, b"\x91\x92\xc6\xff\xff\xff\xff"),
        encode_frame(6, 0, 1, b"\x92\x01\xa1\xff"),
        encode_frame(7, 0, 1, b"\0\0\0\0"),
        frame("CREDIT 1 1073741824"),
        frame("HEAD 1 200") + encode_frame(4, 0, 1, bytes(INITIAL_CREDIT)) + frame("DATA 1 'x'"),
        b"".join(encode_response(1, 0, Response(103, bytes(60_000), [])) for _ in range(10)),
    ],
)
async def test_faults_of_a_stream_cost_that_exchange(data: bytes) -> None:
    async with scene() as play:
        exchange = await play.exchange(b"part", end=False)
        await play.says(data)
        await until(lambda: exchange.failure is not None)  # to take data before would grant credit for more
        reset = await reset_of(exchange)
        assert reset.code == ResetCode.PROTOCOL
        await play.unharmed()
        again = await play.exchange()  # the tunnel itself is as good as before
        await play.says(frame("HEAD 2 204 end"))
        assert await read(again) == ([204], b"", [])
        assert len(play.relay.switch.tunnels) == 2


async def test_nothing_is_made_of_frames_for_what_is_over() -> None:
    async with scene() as play:
        exchange = await play.exchange()
        await play.says(frame("HEAD 1 204 end"))
        assert (await read(exchange))[0] == [204]
        await play.says(frames("HEAD 1 200", "DATA 1 'x'", "END 1", "RESET 1 CANCELLED", "CREDIT 1 5"))
        await play.says(PING_FRAME * 100 + encode_frame(4, 0, 1, bytes(262_144)))
        await play.unharmed()
        assert len(play.relay.switch.tunnels) == 2


async def test_empty_data_without_end_fills_nothing() -> None:
    async with scene() as play:
        exchange = await play.exchange()
        await play.says(frame("HEAD 1 200") + frame("DATA 1 0") * 20_000 + frame("DATA 1 'x'"))
        assert (await read_head(exchange)).response.status == 200
        item = await exchange.receive()
        assert getattr(item, "data", b"") == b"x"
        assert len(exchange._inbox) == 0
        exchange.reset(ResetCode.CANCELLED)
        await play.unharmed()


async def test_text_messages_end_the_tunnel() -> None:
    async with scene() as play:
        exchange = await play.exchange()
        await play.rogue._transport._connection.send_message("text")  # type: ignore[attr-defined]
        reset = await reset_of(exchange)
        assert reset.message == "the peer sent a text message; the wire is binary"
        await play.unharmed()


async def test_a_client_that_goes_without_a_word() -> None:
    async with scene() as play:
        exchange = await play.exchange()
        transport = play.rogue._transport
        await trio.aclose_forcefully(transport._connection._stream)  # type: ignore[attr-defined]
        assert (await reset_of(exchange)).code == ResetCode.TUNNEL_LOST
        await play.unharmed()


async def test_a_client_that_floods_without_reading() -> None:
    """What it is sent waits for it alone; what it sends is worth nothing without an exchange."""
    async with scene() as play:
        exchanges = [await play.exchange(b"x" * 60_000, end=False) for _ in range(20)]
        for exchange in exchanges:
            await exchange.send_data(bytes(150_000))
        for _ in range(20):
            await play.says(encode_frame(4, 0, 1, bytes(200_000)))
        assert (await reset_of(exchanges[0])).code == ResetCode.PROTOCOL
        assert await read(opened(play.conductor, play.honest, b"x")) == ([200], b"x", [])
        for exchange in exchanges:
            exchange.reset(ResetCode.CANCELLED)
        await play.unharmed()


kinds = st.integers(1, 9)
rogue_frames = st.lists(
    st.one_of(
        st.builds(encode_frame, kinds, st.integers(0, 255), st.integers(0, 4), st.binary(max_size=20)),
        st.sampled_from(
            ["HEAD 1 200", "HEAD 2 103", "DATA 1 'x' end", "END 1", "RESET 2 INTERNAL", "CREDIT 1 9"]
        ).map(frame),
        st.binary(max_size=30),
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rogue_frames)
def test_whatever_a_client_sends(sent: list[bytes]) -> None:
    async def play() -> None:
        async with scene() as stage:
            running = [await stage.exchange(), await stage.exchange(b"x", end=False)]
            try:
                for data in sent:
                    await stage.says(data)
            except LinkClosed:
                pass
            assert await read(opened(stage.conductor, stage.honest, b"x")) == ([200], b"x", [])
            for exchange in running:
                exchange.reset(ResetCode.CANCELLED)
            await stage.unharmed()

    trio.run(play)
