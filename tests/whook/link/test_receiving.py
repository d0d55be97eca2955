"""`receive_when_ready`: as `receive_some`, only that it waits before it reads."""

from __future__ import annotations

import os
import socket

import pytest
import trio
import trio.testing

from tests.support.deadlines import DEADLINE
from tests.support.links import tcp_pair
from whook.link.transport import receive_when_ready


async def test_what_is_there_and_what_comes_later() -> None:
    async with tcp_pair() as (client, server):
        with trio.fail_after(DEADLINE):
            await client.send_all(b"one")
            assert await receive_when_ready(server, 100) == b"one"
            async with trio.open_nursery() as nursery:

                async def later() -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    await client.send_all(b"two")

                nursery.start_soon(later)
                assert await receive_when_ready(server, 2) == b"tw"
            assert await receive_when_ready(server, 100) == b"o"
            await client.send_eof()
            assert await receive_when_ready(server, 100) == b""


async def test_a_cancelled_wait_loses_nothing() -> None:
    async with tcp_pair() as (client, server):
        with trio.CancelScope() as scope:
            scope.cancel()
            await receive_when_ready(server, 100)
        assert scope.cancelled_caught
        await client.send_all(b"kept")
        with trio.fail_after(DEADLINE):
            assert await receive_when_ready(server, 100) == b"kept"


async def test_a_reset_is_a_broken_connection() -> None:
    async with tcp_pair() as (client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.socket.close()
        with trio.fail_after(DEADLINE), pytest.raises(trio.BrokenResourceError):
            await receive_when_ready(server, 100)


async def test_closed_before_and_while_it_waits() -> None:
    async with tcp_pair() as (_, server):
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:

                async def close() -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    server.socket.close()

                nursery.start_soon(close)
                with pytest.raises(trio.ClosedResourceError):
                    await receive_when_ready(server, 100)
            with pytest.raises(trio.ClosedResourceError):
                await receive_when_ready(server, 100)


async def test_closed_when_data_had_come_but_was_not_read_yet() -> None:
    """Its descriptor may be another connection's by the time at which it would be read."""
    async with tcp_pair() as (client, server):
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:

                async def come_and_close() -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    os.write(client.socket.fileno(), b"too late")  # no checkpoint between the two
                    server.socket.close()

                nursery.start_soon(come_and_close)
                with pytest.raises(trio.ClosedResourceError):
                    await receive_when_ready(server, 100)


async def test_a_stream_that_is_no_socket() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_all(b"one")
    with trio.fail_after(DEADLINE):
        assert await receive_when_ready(ours, 100) == b"one"
