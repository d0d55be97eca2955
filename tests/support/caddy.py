"""Caddy from Debian with the Caddyfile that is shipped; addresses and certificates are put in."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.deadlines import DEADLINE, Changing
from tests.support.edge import DEPLOY, DOMAIN

SHIPPED = DEPLOY / "caddy" / "Caddyfile"


def find_caddy() -> str | None:
    """Return the path of the program, if it is installed."""
    return shutil.which("caddy")


def render(
    *, port: int, admin: int, certificate: Path, places: dict[str, str], health: dict[str, int]
) -> str:
    """Give the shipped Caddyfile on this port.

    ``places`` are what comes in the place of the backends' addresses, ``health`` the admin port of each site
    by the first label of its name.
    """
    text = SHIPPED.read_text("utf-8")
    known = {
        "/etc/caddy/certs/hooks.pem /etc/caddy/certs/hooks.key": f"{certificate} {certificate}",
        "admin localhost:2019": f"admin localhost:{admin}",
        f"relay-1.{DOMAIN}": "localhost",
        **places,
    }
    for old, new in known.items():
        assert old in text, f"{old!r} is not in {SHIPPED}"
        text = text.replace(old, new)
    assert "10.0.0." not in text
    # No port is Caddy's own for redirections, which would be 80.
    text = text.replace("{\n", f"{{\n\thttps_port {port}\n\tauto_https disable_redirects\n", 1)
    head, *sites = text.split("\nhttps://")
    for index, site in enumerate(sites):
        label = site.partition(".")[0] if "." in site.partition(" ")[0] else site.partition(" ")[0]
        if "import ready" in site:
            lines = f"import ready\n\t\thealth_port {health[label]}"
            sites[index] = site.replace("import ready", lines)
    return "\nhttps://".join([head, *sites])


def environment(home: Path) -> dict[str, str]:
    """Give an environment in which Caddy keeps what it writes in this folder."""
    return {"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)}


def run_caddy(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of Caddy to its end."""
    program = find_caddy()
    assert program is not None
    return subprocess.run(
        [program, *arguments],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE,
    )


class Caddy:
    """A running Caddy."""

    def __init__(self, configuration: Path) -> None:
        program = find_caddy()
        assert program is not None
        self.log: list[str] = []
        self._configuration = configuration
        self._changing = Changing()
        self._process = subprocess.Popen(
            [program, "run", "--adapter", "caddyfile", "--config", str(configuration)],
            env=environment(configuration.parent),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as pipe:
            for line in pipe:
                with self._changing:
                    self.log.append(line.rstrip("\n"))
        with self._changing:
            self.log.append("ended")

    def wait_log(self, text: str) -> None:
        """Wait for a line with this in it."""

        def look() -> str | None:
            return next((line for line in self.log if text in line or line == "ended"), None)

        found = self._changing.wait_for(look, f"Caddy: {text!r}", DEADLINE)
        assert found != "ended", "\n".join(self.log[-20:])

    def reload(self, admin: int) -> None:
        """Have it take the configuration's file as it is now."""
        options = ("--adapter", "caddyfile", "--config", str(self._configuration), "--force")
        done = run_caddy(
            "reload", *options, "--address", f"localhost:{admin}", home=self._configuration.parent
        )
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(DEADLINE)
        self._reader.join(DEADLINE)


@contextmanager
def running_caddy(configuration: Path) -> Iterator[Caddy]:
    """Run Caddy with a configuration until the block ends."""
    caddy = Caddy(configuration)
    try:
        caddy.wait_log("serving initial configuration")
        yield caddy
    finally:
        caddy.stop()
