"""The senders of a crowd: what is due is sent and timed from when it was due; what fails is told."""

from __future__ import annotations

import argparse
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.crowd_load import Senders

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Receiver:
    """A server that answers every request with the same, once it may."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.may_answer = threading.Event()
        self.awaited = 0
        """Requests that must be there before any is answered."""
        self.hosts: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65_536):
                self.hosts.append(data.split(b"Host: ")[1].split(b".")[0].decode())
                if len(self.hosts) >= self.awaited:
                    self.may_answer.set()
                self.may_answer.wait(10)
                connection.sendall(self.answer)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        self.listener.close()


@contextmanager
def sending(answer: bytes = OK) -> Iterator[tuple[Receiver, Senders]]:
    receiver = Receiver(answer)
    arguments = argparse.Namespace(port=receiver.port, prefix="p-", first=0, count=5, size=2, seed=1)
    senders = Senders(arguments)
    try:
        yield receiver, senders
    finally:
        senders.close()
        receiver.close()


def test_each_gets_one() -> None:
    with sending() as (receiver, senders):
        senders.closed(3, 30.0, iter(range(40)))
        assert sorted(receiver.hosts) == sorted(f"p-{n}" for n in range(40))
        assert (len(senders.latencies), senders.failed) == (40, 0)


def test_what_is_due_while_all_stands_still_is_sent_and_timed_from_then() -> None:
    """No answer comes before the twentieth is there, and that is due 0.19 s after the first."""
    with sending() as (receiver, senders):
        receiver.awaited = 20
        senders.open(100.0, 0.2)
        assert len(receiver.hosts) == len(senders.latencies) == 20
        assert max(senders.latencies) >= 0.19


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", b"nonsense\r\n\r\n"])
def test_any_other_answer_is_a_failure(answer: bytes) -> None:
    with sending(answer) as (_, senders):
        senders.closed(1, 30.0, iter(range(3)))
        assert (senders.failed, senders.latencies) == (3, [])
        assert "p-0: unexpected answer" in senders.failures[0]


def test_a_receiver_that_is_not_there_is_a_failure() -> None:
    with sending() as (_, senders):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            senders.port = closed.getsockname()[1]
        senders.closed(1, 30.0, iter(range(2)))
        assert senders.failed == 2
