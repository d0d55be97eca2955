"""A sender that many links share: order, bounds, slow peers, and every end of a link that has one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, Ping, Pong

from tests.support.deadlines import DEADLINE
from tests.support.links import tcp_pair, until
from tests.support.wire_talk import frame, frames, show_frame
from whook.link import HIGH_WATER, Link, LinkClosed, Sender, StreamTransport, Transport
from whook.link.acceptor import AcceptedWebSocket
from whook.wire import DATA, GOAWAY, HEADER_SIZE, Frame, decode_goaway, encode_frame

MUCH = 8_000_000
"""Bytes that no pair of socket buffers on this machine takes at once."""


@dataclass
class Shared:
    """A link whose writer is a sender, the far end of its connection, and what came of it."""

    link: Link
    far: trio.SocketStream
    received: list[Frame] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    async def run(self) -> None:
        self.ended.append(await self.link.run(self.received.extend))


@asynccontextmanager
async def shared(kind: str = "tcp", count: int = 1) -> AsyncGenerator[list[Shared]]:
    """Run links that have one sender."""
    sender = Sender()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        found: list[Shared] = []
        async with trio.open_nursery() as links:
            for number in range(count):
                pair = await links.start(_pair)
                transport: Transport = (
                    StreamTransport(pair[0]) if kind == "tcp" else AcceptedWebSocket(pair[0])
                )
                each = Shared(Link(transport, name=str(number), flush_soon=sender.add), pair[1])
                found.append(each)
                links.start_soon(each.run)
            yield found
            links.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def _pair(*, task_status: trio.TaskStatus[tuple[trio.SocketStream, trio.SocketStream]]) -> None:
    async with tcp_pair() as pair:
        task_status.started(pair)
        await trio.sleep_forever()


async def take(stream: trio.SocketStream, size: int) -> bytes:
    """Receive so many bytes."""
    data = b""
    with trio.fail_after(DEADLINE):
        while len(data) < size:
            piece = await stream.receive_some(1_048_576)
            assert piece, f"the end after {len(data)} bytes"
            data += piece
    return data


async def test_frames_go_both_ways() -> None:
    async with shared(count=3) as links:
        for number, each in enumerate(links):
            each.link.send(frame(f"DATA 1 '{number}'"))
            each.link.send(frame("DATA 1 'more'"))
            await each.far.send_all(frames("HEAD 1 200", f"DATA 1 'to {number}' end"))
        for number, each in enumerate(links):
            expected = frames(f"DATA 1 '{number}'", "DATA 1 'more'")
            assert await take(each.far, len(expected)) == expected
            await until(lambda each=each: len(each.received) == 2)  # type: ignore[misc]
            assert show_frame(each.received[1]) == f"DATA 1 'to {number}' end"


@pytest.mark.parametrize("kind", ["tcp", "websocket"])
async def test_a_slow_peer_gets_everything_in_order_and_delays_nobody(kind: str) -> None:
    pieces = [encode_frame(DATA, 0, 1, bytes([n % 256]) * 100_000) for n in range(MUCH // 100_000)]
    async with shared(kind, count=2) as (slow, quick):
        for number, piece in enumerate(pieces):
            if number % 3:
                slow.link.send_frame(piece[:HEADER_SIZE], memoryview(piece)[HEADER_SIZE:])
            else:
                slow.link.send(piece)
        await wait_all_tasks_blocked()
        assert slow.link.pending > HIGH_WATER
        quick.link.send(frame("DATA 1 'quick'"))
        assert b"quick" in await take(quick.far, len(frame("DATA 1 'quick'")))
        slow.link.send(frame("DATA 1 'late'"))

        sent = b"".join(pieces) + frame("DATA 1 'late'")
        if kind == "tcp":
            assert await take(slow.far, len(sent)) == sent
        else:
            client, got = Connection(ConnectionType.CLIENT), b""
            with trio.fail_after(DEADLINE):
                while len(got) < len(sent):
                    client.receive_data(await slow.far.receive_some(1_048_576))
                    got += b"".join(bytes(e.data) for e in client.events() if isinstance(e, BytesMessage))
            assert got == sent
        with trio.fail_after(DEADLINE):
            await slow.link.wait_writable()
        await until(lambda: slow.link.pending == 0)


async def test_a_ping_is_answered_between_messages_not_inside_one() -> None:
    async with shared("websocket") as (link,):
        piece = encode_frame(DATA, 0, 1, bytes(250_000))
        for _ in range(MUCH // 250_000):
            link.link.send(piece)
        await wait_all_tasks_blocked()  # a message is out in part
        client = Connection(ConnectionType.CLIENT)
        await link.far.send_all(client.send(Ping(payload=b"there?")))
        await wait_all_tasks_blocked()
        got, pongs = 0, 0
        with trio.fail_after(DEADLINE):
            while got < MUCH or not pongs:
                client.receive_data(await link.far.receive_some(1_048_576))
                for event in client.events():
                    got += len(event.data) if isinstance(event, BytesMessage) else 0
                    pongs += isinstance(event, Pong)
        assert (got, pongs) == (MUCH // 250_000 * len(piece), 1)


@pytest.mark.parametrize("kind", ["tcp", "websocket"])
@pytest.mark.parametrize("how", ["close", "vanish"])
async def test_a_link_ends_in_the_middle_of_a_slow_send(kind: str, how: str) -> None:
    async with shared(kind, count=2) as (link, other):
        link.link.send(bytes(MUCH))
        await wait_all_tasks_blocked()
        if how == "close":
            link.link.close("enough")
        else:
            await link.far.aclose()
        with trio.fail_after(DEADLINE), pytest.raises(LinkClosed):
            await link.link.wait_writable()
        await until(lambda: link.ended)
        if how == "close":
            assert link.ended == ["enough"]
        other.link.send(frame("DATA 1 'still here'"))
        assert b"still here" in await take(other.far, len(frame("DATA 1 'still here'")))


async def test_finish_sends_what_is_pending_then_ends() -> None:
    async with shared() as (link,):
        piece = encode_frame(DATA, 0, 1, bytes(200_000))
        for _ in range(MUCH // 200_000):
            link.link.send(piece)
        link.link.finish("that was all", frame("DATA 1 'last'"))
        link.link.send(frame("DATA 1 'too late'"))
        data = b""
        with trio.fail_after(DEADLINE):
            while more := await link.far.receive_some(1_048_576):
                data += more
        assert data == piece * (MUCH // 200_000) + frame("DATA 1 'last'")
        await until(lambda: link.ended)
        assert link.ended == ["that was all"]


async def test_a_link_that_has_nothing_pending_finishes_at_once() -> None:
    async with shared() as (link,):
        link.link.finish("over")
        await until(lambda: link.ended)
        assert link.ended == ["over"]


async def test_what_was_sent_before_it_runs_waits_for_it() -> None:
    sender = Sender()
    async with tcp_pair() as (near, far), trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        link = Link(StreamTransport(near), name="early", flush_soon=sender.add)
        link.send(frame("DATA 1 'second'"))
        await wait_all_tasks_blocked()
        await link.send_now(frame("DATA 1 'first'"))
        nursery.start_soon(link.run, lambda _: None)
        expected = frames("DATA 1 'first'", "DATA 1 'second'")
        assert await take(far, len(expected)) == expected
        nursery.cancel_scope.cancel()


async def test_who_breaks_the_protocol_is_told_why() -> None:
    async with shared() as (link,):
        await link.far.send_all(b"\xff" * 100)
        data = b""
        with trio.fail_after(DEADLINE):
            while more := await link.far.receive_some():
                data += more
        assert data[4] == GOAWAY
        assert decode_goaway(data[10:]).message in link.link.close_reason
