"""HAProxy from Debian in front of a cluster, with the configuration that is shipped.

Only addresses, ports, certificates and the domain are put in, so what is tested is what operators get.
Where it is not installed `find_haproxy` gives None, and whoever wanted it says that it runs without.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.deadlines import DEADLINE, Changing

SHIPPED = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
_SERVER = re.compile(r"^( +server (?P<name>\S+)) \S+?:\d+(?: port \d+)?$", re.MULTILINE)

Servers = Mapping[str, tuple[int, int]]
"""By name: the port of the service and the admin port."""


def find_haproxy() -> str | None:
    """Return the path of the program, if it is installed; WHOOK_TEST_HAPROXY names another, or none."""
    wanted = os.environ.get("WHOOK_TEST_HAPROXY", "haproxy")
    return shutil.which(wanted) or shutil.which(wanted, path="/usr/sbin:/usr/local/sbin")


def check(configuration: Path) -> str:
    """Let HAProxy check a configuration; give what it complains about, warnings too."""
    program = find_haproxy()
    assert program is not None
    command = [program, "-c", "-dW", "-f", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def render(
    *, port: int, tls_port: int, certificate: Path, backends: Mapping[str, Servers], domain: str
) -> str:
    """Give the shipped configuration with these ports on loopback. Every server of it must be given one.

    Relays may be left out: where the clients come to them directly.
    """
    text = SHIPPED.read_text("utf-8")
    for old, new in {
        "bind :80\n": f"bind 127.0.0.1:{port}\n",
        "bind :443 ssl crt /etc/haproxy/certs/": f"bind 127.0.0.1:{tls_port} ssl crt {certificate}",
        # A client has to resolve the name that it is given; of a sender the tests choose the Host field.
        "api.hooks.example.com": "127.0.0.1",
        "hooks.example.com": domain,
    }.items():
        assert old in text, f"{old!r} is not in {SHIPPED}"
        text = text.replace(old, new)
    return place(text, backends)


def place(text: str, backends: Mapping[str, Servers]) -> str:
    """Give a configuration with these servers in the place of those that it names."""
    for relay in set(re.findall(r"^backend (relay-\d+)$", text, re.MULTILINE)) - set(backends):
        text = re.sub(rf"^ +use_backend {relay} .*\n", "", text, flags=re.MULTILINE)
        text = re.sub(rf"^backend {relay}\n(?: +.*\n|\n)*", "", text, flags=re.MULTILINE)
    sections = re.split(r"^(?=backend )", text, flags=re.MULTILINE)
    return "".join(sections[:1] + [_place(section, backends) for section in sections[1:]])


def _place(section: str, backends: Mapping[str, Servers]) -> str:
    name = section.split(maxsplit=2)[1]
    servers = backends[name]
    checked = "http-check" in section

    def put(found: re.Match[str]) -> str:
        port, admin = servers[found["name"]]
        return f"{found[1]} 127.0.0.1:{port}" + (f" port {admin}" if checked else "")

    placed, count = _SERVER.subn(put, section)
    assert count == len(servers), f"backend {name} has {count} servers, not {sorted(servers)}"
    return placed


class Haproxy:
    """A running HAProxy. Its log tells when it takes a server out and in again."""

    def __init__(
        self, program: str, configuration: Path, port: int, tls_port: int, *, master: bool = False
    ) -> None:
        self.port = port
        self.tls_port = tls_port
        self.log: list[str] = []
        self._changing = Changing()
        self._process = subprocess.Popen(
            [program, *(["-W"] if master else []), "-db", "-f", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            for line in pipe:
                with self._changing:
                    self.log.append(line.rstrip("\n"))
        with self._changing:
            self.log.append("ended")

    def wait_open(self) -> None:
        """Wait until it takes connections; nothing in its log tells."""
        ends = time.monotonic() + DEADLINE
        while "ended" not in self.log:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE).close()
            except ConnectionRefusedError:
                assert time.monotonic() < ends, self.story()
                time.sleep(0.01)
            else:
                return
        raise AssertionError(self.story())

    def wait_log(self, text: str, *, after: int = 0, seconds: float = DEADLINE) -> str:
        """Wait for a line with this in it, at or after index ``after``."""

        def look() -> str | None:
            return next((line for line in self.log[after:] if text in line or line == "ended"), None)

        found = self._changing.wait_for(look, f"HAProxy: {text!r}", seconds)
        assert found != "ended", self.story()
        return found

    def wait_up(self, server: str, *, after: int) -> None:
        """Wait until it has found a server ready, in a log line at or after ``after``."""
        for backend in ("conductors", "api"):
            self.wait_log(f"Server {backend}/{server} is UP", after=after)

    def wait_down(self, server: str, *, after: int) -> None:
        """Wait until it has taken a server out, in a log line at or after ``after``."""
        self.wait_log(f"Server conductors/{server} is DOWN", after=after)

    def reload(self) -> None:
        """Have its master start anew with the configuration's file as it is now."""
        self._process.send_signal(signal.SIGUSR2)

    def story(self) -> str:
        """The end of its log."""
        return "\n".join(["--- haproxy", *self.log[-60:]])

    def stop(self) -> None:
        """End it at once."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)


@contextmanager
def running_haproxy(
    configuration: Path, *, port: int, tls_port: int, master: bool = False
) -> Iterator[Haproxy]:
    """Run HAProxy with a configuration until the block ends; with a ``master`` it can be reloaded."""
    program = find_haproxy()
    assert program is not None
    haproxy = Haproxy(program, configuration, port, tls_port, master=master)
    try:
        haproxy.wait_open()
        yield haproxy
    finally:
        haproxy.stop()
