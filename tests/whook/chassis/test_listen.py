"""Listening: addresses as people write them, and errors that say what to do."""

import contextlib
import socket

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from whook.chassis.listen import (
    ListenError,
    bound_address,
    bound_port,
    format_address,
    open_listeners,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        (":8080", ("", 8080)),
        ("*:8080", ("", 8080)),
        (" localhost:65535 ", ("localhost", 65535)),
    ],
)
def test_parses(text: str, parts: tuple[str, int]) -> None:
    assert parse_address(text) == parts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost", "has no port"),
        ("localhost:", "no valid port"),
        ("localhost:http", "no valid port"),
        ("localhost:65536", "no valid port"),
        ("localhost:-1", "no valid port"),
        ("localhost:٣", "no valid port"),
        ("::1:8080", "in brackets"),
    ],
)
def test_refuses(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_address(text)


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_reads_back_what_it_formats(address: object, port: int) -> None:
    assert parse_address(format_address(str(address), port)) == (str(address), port)


@given(st.text())
def test_only_value_error_escapes(text: str) -> None:
    with contextlib.suppress(ValueError):
        host, port = parse_address(text)
        assert 0 <= port <= 65_535
        assert host != "*"


def close(listeners: list[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()


async def test_listens_on_a_free_port() -> None:
    listeners = await open_listeners("127.0.0.1:0")
    try:
        assert bound_port(listeners) > 0
        assert bound_address(listeners) == f"127.0.0.1:{bound_port(listeners)}"
        async with await trio.open_tcp_stream("127.0.0.1", bound_port(listeners)):
            pass
        assert listeners[0].socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    finally:
        close(listeners)


async def test_every_address_of_a_name_gets_the_same_port() -> None:
    listeners = await open_listeners("localhost:0")
    try:
        assert {listener.socket.getsockname()[1] for listener in listeners} == {bound_port(listeners)}
    finally:
        close(listeners)


async def test_all_addresses() -> None:
    listeners = await open_listeners(":0")
    try:
        async with await trio.open_tcp_stream("127.0.0.1", bound_port(listeners)):
            pass
    finally:
        close(listeners)


async def test_says_that_the_port_is_in_use() -> None:
    taken = await open_listeners("127.0.0.1:0")
    port = bound_port(taken)
    try:
        with pytest.raises(ListenError) as caught:
            await open_listeners(f"127.0.0.1:{port}", what="webhooks", option="--ingress")
    finally:
        close(taken)
    assert str(caught.value) == (
        f"cannot listen for webhooks: 127.0.0.1:{port} is in use; "
        "stop the program that listens there, or choose another port, set it with --ingress"
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nonsense", "has no port"),
        ("no-such-host.invalid:80", "is not known"),
        ("192.0.2.1:0", "is not an address of this machine"),
    ],
)
async def test_says_what_is_wrong_with_an_address(address: str, said: str) -> None:
    with pytest.raises(ListenError, match=said) as caught:
        await open_listeners(address)
    assert "\n" not in str(caught.value)


async def test_can_be_opened_again_at_once_after_use() -> None:
    listeners = await open_listeners("127.0.0.1:0")
    port = bound_port(listeners)
    async with await trio.open_tcp_stream("127.0.0.1", port):
        served = await listeners[0].accept()
        await served.aclose()  # the server's end closes first and is left in TIME_WAIT
        close(listeners)
    close(await open_listeners(f"127.0.0.1:{port}"))
