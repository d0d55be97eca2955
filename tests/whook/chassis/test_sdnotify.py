"""sd_notify against a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from whook.chassis import sdnotify


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        path = str(tmp_path / "notify")
        sock.bind(path)
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield sock


def test_sends_one_message(supervisor: socket.socket) -> None:
    assert sdnotify.notify(sdnotify.READY, "STATUS=on 127.0.0.1:8080")
    assert supervisor.recv(4096) == b"READY=1\nSTATUS=on 127.0.0.1:8080"


def test_reaches_the_abstract_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"whook-test-{os.getpid()}"
        sock.bind("\0" + name)
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert sdnotify.notify(sdnotify.WATCHDOG)
        assert sock.recv(4096) == b"WATCHDOG=1"


def test_never_waits_for_a_full_supervisor(supervisor: socket.socket) -> None:
    while sdnotify.notify("X" * 1000):
        pass  # ends when the socket's buffer is full: no call blocks


@pytest.mark.parametrize("path", ["", "relative/path", "/nonexistent/notify", "vsock:1:2"])
def test_does_nothing_without_systemd(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert not sdnotify.notify(sdnotify.READY)


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        (None, None, None),
        ("30000000", None, 15.0),
        ("30000000", "self", 15.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
    ],
)
def test_reads_the_watchdog_interval(
    usec: str | None, pid: str | None, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if usec is not None:
        monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "self" else pid)
    assert sdnotify.watchdog_seconds() == expected
