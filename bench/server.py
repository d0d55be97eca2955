"""What is measured: the real `whook serve` in a process of its own, on free ports, with fresh data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from bench.process import Child

FREE_PORTS = ("--port", "0", "--api-port", "0", "--tunnel-port", "0", "--admin-port", "0", "--auth-port", "0")

#: A bench opens its tunnels as fast as it can, which admission control is there to spread.
OPEN_DOOR = {"WHOOK_RELAY_HANDSHAKES_PER_SECOND": "100000", "WHOOK_RELAY_MAX_HANDSHAKES": "100000"}


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where senders and clients find it, and the token that opens tunnels."""

    child: Child
    ingress: int
    api: str
    token: str
    home: Path


@contextmanager
def whook_serve(*options: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    """Run `whook serve`; the block gets it once it is ready. ``env`` adds to its environment."""
    with TemporaryDirectory(prefix="whook-bench-") as home:
        command = ("-m", "whook_cli", "serve", *FREE_PORTS, "--data-dir", f"{home}/data", *options)
        whole = {"HOME": home, "NO_COLOR": "1", **OPEN_DOOR, **(env or {})}
        with Child(*command, name="whook serve", env=whole) as child:
            said: dict[str, str] = {}
            while "admin token" not in said:
                name, _, value = child.line().partition("  ")
                said[name] = value.strip()
            port = urlsplit(said["webhooks"]).port
            token = said["admin token"].split()[0]
            yield Server(child, port or 80, said["API"], token, Path(home))
