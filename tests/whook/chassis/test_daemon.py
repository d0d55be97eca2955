"""run_daemon: real signals and real sockets, mostly in a child process."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from whook.chassis.daemon import EXIT_STUCK, Daemon, run_daemon
from whook.chassis.listen import ListenError, bound_address, open_listeners
from whook.chassis.readiness import Finding
from whook.chassis.settings import DaemonSettings

PROGRAM = Path(__file__).with_name("daemon_program.py")
LIMIT = 30.0
"""Seconds after which a test that waits has failed."""

NO_ADMIN = DaemonSettings(admin="", drain_seconds=LIMIT)


class Child:
    def __init__(self, process: subprocess.Popen[str], supervisor: socket.socket) -> None:
        self.process = process
        self.supervisor = supervisor
        assert process.stdout is not None
        line = process.stdout.readline().split()
        assert len(line) == 2, self.finish()
        self.admin_port, self.port = map(int, line)

    def notified(self, expected: str) -> str:
        """Wait for a notification that has ``expected`` in it."""
        while expected not in (message := self.supervisor.recv(4096).decode()):
            pass
        return message

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=LIMIT)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def finish(self) -> str:
        """Wait for the end of the process and return what it wrote to stderr."""
        return self.process.communicate(timeout=LIMIT)[1]


Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    children: list[subprocess.Popen[str]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(LIMIT)

        def start(body: str, **environment: str) -> Child:
            process = subprocess.Popen(
                [sys.executable, PROGRAM, body],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")} | environment,
            )
            children.append(process)
            return Child(process, supervisor)

        yield start
        for process in children:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=LIMIT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_the_body_ends_with_its_status(
    start: Start, number: signal.Signals
) -> None:
    child = start("finishes")
    assert child.notified("READY=1") == "READY=1\nSTATUS=test body"
    child.process.send_signal(number)
    assert "EXTEND_TIMEOUT_USEC=" in child.notified("STOPPING=1")
    log = [json.loads(line) for line in child.finish().splitlines()]
    assert child.process.returncode == 3
    assert [entry["event"] for entry in log] == ["started", "draining"]
    assert log[1]["reason"] == number.name
    assert log[1]["daemon"] == "test"


def test_the_second_signal_cancels(start: Start) -> None:
    child = start("goes_on", WHOOK_DAEMON_DRAIN_SECONDS="3600")
    child.process.send_signal(signal.SIGTERM)
    child.notified("STOPPING=1")
    assert child.process.poll() is None
    child.process.send_signal(signal.SIGINT)
    assert "second signal: SIGINT" in child.finish()
    assert child.process.returncode == 128 + signal.SIGINT


def test_the_deadline_cancels(start: Start) -> None:
    child = start("goes_on", WHOOK_DAEMON_DRAIN_SECONDS="0.2")
    child.process.send_signal(signal.SIGTERM)
    assert "stopped before everything was finished" in child.finish()
    assert child.process.returncode == 0


@pytest.mark.parametrize("body", ["hides", "blocks"])
@pytest.mark.parametrize("signals", [1, 2])
def test_what_cannot_be_cancelled_ends_by_force(start: Start, body: str, signals: int) -> None:
    child = start(body, WHOOK_DAEMON_DRAIN_SECONDS="0.2" if signals == 1 else "3600")
    child.process.send_signal(signal.SIGTERM)
    if signals == 2:
        child.notified("STOPPING=1")
        child.process.send_signal(signal.SIGTERM)
    assert "ending by force" in child.finish()
    assert child.process.returncode == EXIT_STUCK


@pytest.mark.parametrize("signals", [1, 2])
def test_a_client_that_stops_reading_does_not_keep_it_alive(start: Start, signals: int) -> None:
    child = start("streams", WHOOK_DAEMON_DRAIN_SECONDS="0.2" if signals == 1 else "3600")
    with socket.create_connection(("127.0.0.1", child.port), timeout=LIMIT) as stalled:
        stalled.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert stalled.recv(10)
        child.process.send_signal(signal.SIGTERM)
        if signals == 2:
            child.notified("STOPPING=1")
            child.process.send_signal(signal.SIGTERM)
        assert "ending by force" not in child.finish()
    assert child.process.returncode == (0 if signals == 1 else 128 + signal.SIGTERM)


def test_a_stalled_client_of_the_admin_endpoints_does_not_keep_it_alive(start: Start) -> None:
    child = start("finishes")
    with socket.create_connection(("127.0.0.1", child.admin_port), timeout=LIMIT) as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        stalled.setblocking(False)
        try:
            while True:
                stalled.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        except BlockingIOError:
            pass  # the server has stopped reading, since its answers are not read
        child.process.send_signal(signal.SIGTERM)
        assert "ending by force" not in child.finish()
    assert child.process.returncode == 3


def test_errors_surface(start: Start) -> None:
    child = start("fails")
    assert "RuntimeError: boom" in child.finish()
    assert child.process.returncode == 1


def test_admin_endpoints_during_life_and_drain(start: Start) -> None:
    child = start("goes_on", WHOOK_DAEMON_DRAIN_SECONDS="3600")
    child.notified("READY=1")
    assert child.get("/healthz") == (200, "ok\n")
    status, body = child.get("/readyz")
    found = {"ready": True, "status": "ready", "checks": {"drain": "ok", "started": "ok"}}
    assert (status, json.loads(body)) == (200, found)
    status, body = child.get("/metrics")
    assert status == 200
    for name in (
        "whook_build_info",
        "whook_tasks",
        "whook_draining",
        "process_open_fds",
        "whook_connections",
    ):
        assert f"{name}{{" in body or f"{name} " in body
    assert child.get("/metrics", "HEAD") == (200, "")
    assert child.get("/metrics", "POST")[0] == 405
    assert child.get("/")[0] == 404

    child.process.send_signal(signal.SIGTERM)
    child.notified("STOPPING=1")
    assert child.get("/healthz") == (200, "ok\n")
    status, body = child.get("/readyz")
    assert status == 503
    assert json.loads(body)["checks"]["drain"] == "draining: SIGTERM"
    assert 'whook_draining{daemon="test"} 1.0' in child.get("/metrics")[1]


def test_feeds_the_watchdog(start: Start) -> None:
    child = start("goes_on", WATCHDOG_USEC="20000")
    child.notified("WATCHDOG=1")
    child.notified("WATCHDOG=1")


# In this process: what a body gets, and what comes back from it.


async def test_is_not_ready_until_started() -> None:
    seen: list[Finding] = []

    async def body(daemon: Daemon) -> None:
        seen.append(daemon.readiness.evaluate()["started"])
        daemon.started()
        seen.append(daemon.readiness.evaluate()["started"])

    assert await run_daemon("test", body, settings=NO_ADMIN) == 0
    assert seen == ["starting", None]


async def test_a_signal_in_this_process() -> None:
    async def body(daemon: Daemon) -> int:
        signal.raise_signal(signal.SIGTERM)
        with trio.fail_after(LIMIT):
            await daemon.drain.wait()
        return 7

    assert await run_daemon("test", body, settings=NO_ADMIN) == 7
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


async def test_a_drain_that_the_body_begins_counts_no_signal() -> None:
    async def body(daemon: Daemon) -> None:
        daemon.drain.begin("update")
        signal.raise_signal(signal.SIGTERM)  # the first one: nothing is cancelled
        await trio.testing.wait_all_tasks_blocked()
        await trio.lowlevel.checkpoint()

    assert await run_daemon("test", body, settings=NO_ADMIN) == 0


ERROR = ExceptionGroup("two things", [RuntimeError("a"), ValueError("b")])


@pytest.mark.parametrize("error", [ERROR, RuntimeError("boom"), SystemExit(9)])
async def test_what_the_body_raises_is_raised_as_it_is(error: BaseException) -> None:
    async def body(daemon: Daemon) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        await run_daemon("test", body, settings=NO_ADMIN)
    assert caught.value is error


async def test_a_busy_admin_port_is_one_clear_line() -> None:
    taken = await open_listeners("127.0.0.1:0")
    settings = DaemonSettings(admin=bound_address(taken))

    async def body(daemon: Daemon) -> None:
        raise AssertionError("must not start")

    try:
        with pytest.raises(ListenError, match=r"admin endpoints: .* is in use; .* WHOOK_DAEMON_ADMIN"):
            await run_daemon("test", body, settings=settings)
    finally:
        taken[0].socket.close()


async def test_outer_cancellation_ends_it() -> None:
    listening = trio.Event()
    settings = DaemonSettings(admin="127.0.0.1:0")

    async def body(daemon: Daemon) -> None:
        listening.set()
        await trio.sleep_forever()

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            daemon = await nursery.start(
                lambda task_status: run_daemon("test", body, settings=settings, task_status=task_status)
            )
            await listening.wait()
            assert daemon.admin_address.startswith("127.0.0.1:")
            nursery.cancel_scope.cancel(reason="test")


def test_the_collector_is_tuned_and_still_collects() -> None:
    """In a process of its own: what it takes out of the collector's sight stays there."""
    program = """
import gc, weakref
from whook.chassis.daemon import YOUNG_OBJECTS, tune_collector
tune_collector()
assert gc.get_threshold()[0] == YOUNG_OBJECTS
assert gc.get_freeze_count() > 10_000

class Cycle:
    pass

alive = weakref.WeakSet()
most = 0
for _ in range(200_000):
    cycle = Cycle()
    cycle.me = cycle
    alive.add(cycle)
    most = max(most, len(alive))
assert most < 2 * YOUNG_OBJECTS, most
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
