"""Socket activation: sockets that outlive the daemon, found by their names in the environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import trio

from tests.support.deadlines import DEADLINE
from whook.chassis.activation import inherited_sockets
from whook.chassis.listen import ListenError, check_address, open_listeners

PROGRAM = """
import sys, trio
from whook.chassis.listen import open_listeners

async def main():
    [listener] = await open_listeners("systemd:ingress")
    stream = await listener.accept()
    await stream.send_all(sys.argv[1].encode())
    await stream.aclose()

trio.run(main)
"""


@contextmanager
def listening(kind: int = socket.SOCK_STREAM) -> Generator[socket.socket]:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield sock


def start(sock: socket.socket, says: str) -> subprocess.Popen[bytes]:
    """Start the program as systemd would: the socket is descriptor 3, LISTEN_PID the process's own."""
    set_up = (
        "import os; os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES='ingress')"
    )

    def pass_socket() -> None:
        os.dup2(sock.fileno(), 3)

    command = [sys.executable, "-c", f"{set_up}\n{PROGRAM}", says]
    return subprocess.Popen(command, preexec_fn=pass_socket, close_fds=False)


def receive(client: socket.socket) -> bytes:
    client.settimeout(DEADLINE)
    data = b""
    while more := client.recv(100):
        data += more
    return data


@pytest.mark.skipif(sys.platform == "win32", reason="there is no systemd")
def test_connections_wait_while_the_daemon_restarts() -> None:
    with listening() as sock:
        clients = [socket.create_connection(sock.getsockname(), timeout=DEADLINE) for _ in range(2)]
        for says in ("first", "second"):  # each accepts one; the other waits, with no daemon at all
            process = start(sock, says)
            assert process.wait(DEADLINE) == 0
        assert [receive(client) for client in clients] == [b"first", b"second"]
        for client in clients:
            client.close()


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Generator[socket.socket]:
    """Give a socket that this process was passed as `api`."""
    with listening() as sock:
        monkeypatch.setattr("whook.chassis.activation._FIRST", sock.fileno())
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_FDNAMES", "api")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        yield sock


async def test_a_closed_listener_can_be_opened_again(passed: socket.socket) -> None:
    for _ in range(2):
        [listener] = await open_listeners("systemd:api")
        assert listener.socket.getsockname() == passed.getsockname()
        await listener.aclose()
    with trio.fail_after(DEADLINE):
        async with await trio.open_tcp_stream(*passed.getsockname()):
            pass


@pytest.mark.usefixtures("passed")
async def test_a_name_that_was_not_passed() -> None:
    with pytest.raises(ListenError, match=r"systemd:ingress: no socket is called 'ingress': .* passes api"):
        await open_listeners("systemd:ingress")


@pytest.mark.usefixtures("passed")
def test_sockets_of_another_process_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    with pytest.raises(ValueError, match="no sockets were passed"):
        inherited_sockets("api")


def test_a_socket_that_does_not_listen(passed: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert passed
    with listening(socket.SOCK_DGRAM) as other:
        monkeypatch.setattr("whook.chassis.activation._FIRST", other.fileno())
        with pytest.raises(ValueError, match="does not listen for TCP"):
            inherited_sockets("api")
    with pytest.raises(ValueError, match="cannot be used"):
        inherited_sockets("api")


def test_addresses_that_settings_take() -> None:
    check_address("systemd:ingress")
    check_address("127.0.0.1:80")
    with pytest.raises(ValueError, match="has no name"):
        check_address("systemd:")
    with pytest.raises(ValueError, match="has no port"):
        check_address("localhost")
